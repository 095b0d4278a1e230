//! Where an event comes from, in the words of Sigma's log sources.
//!
//! A rule says for which log it was written: a product, a category, a service, or some of them. Of a Windows event the
//! channel and the number say all three; of other events their form does, or the config.
//!
//! # Source
//! The appendix "taxonomy" of the Sigma specification 2.1, and the log sources that rules of SigmaHQ name.

/// What an event is, as rules name it. An empty word is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSource<'e> {
    pub product: &'e str,
    pub service: &'e str,
    /// One event may be of several.
    pub categories: &'e [&'e str],
}

pub const WINDOWS: &str = "windows";

/// Services by the channel of a Windows event, in lower case.
#[rustfmt::skip]
const SERVICES: &[(&str, &str)] = &[
    ("application", "application"),
    ("dns server", "dns-server"),
    ("microsoft-iis-configuration/operational", "iis-configuration"),
    ("microsoft-servicebus-client/admin", "microsoft-servicebus-client"),
    ("microsoft-servicebus-client/operational", "microsoft-servicebus-client"),
    ("microsoft-windows-applocker/exe and dll", "applocker"),
    ("microsoft-windows-applocker/msi and script", "applocker"),
    ("microsoft-windows-applocker/packaged app-deployment", "applocker"),
    ("microsoft-windows-applocker/packaged app-execution", "applocker"),
    ("microsoft-windows-appmodel-runtime/admin", "appmodel-runtime"),
    ("microsoft-windows-appxdeploymentserver/operational", "appxdeployment-server"),
    ("microsoft-windows-appxpackaging/operational", "appxpackaging-om"),
    ("microsoft-windows-bits-client/operational", "bits-client"),
    ("microsoft-windows-capi2/operational", "capi2"),
    ("microsoft-windows-certificateservicesclient-lifecycle-system/operational", "certificateservicesclient-lifecycle-system"),
    ("microsoft-windows-codeintegrity/operational", "codeintegrity-operational"),
    ("microsoft-windows-dhcp-server/operational", "dhcp"),
    ("microsoft-windows-diagnosis-scripted/operational", "diagnosis-scripted"),
    ("microsoft-windows-dns-client/operational", "dns-client"),
    ("microsoft-windows-dns-server/analytical", "dns-server-analytic"),
    ("microsoft-windows-dns-server/audit", "dns-server-audit"),
    ("microsoft-windows-driverframeworks-usermode/operational", "driver-framework"),
    ("microsoft-windows-hyper-v-worker", "hyper-v-worker"),
    ("microsoft-windows-hyper-v-worker-admin", "hyper-v-worker"),
    ("microsoft-windows-kernel-eventtracing", "kernel-event-tracing"),
    ("microsoft-windows-kernel-eventtracing/admin", "kernel-event-tracing"),
    ("microsoft-windows-kernel-shimengine/diagnostic", "kernel-shimengine"),
    ("microsoft-windows-kernel-shimengine/operational", "kernel-shimengine"),
    ("microsoft-windows-ldap-client/debug", "ldap"),
    ("microsoft-windows-lsa/operational", "lsa-server"),
    ("microsoft-windows-ntfs/operational", "ntfs"),
    ("microsoft-windows-ntlm/operational", "ntlm"),
    ("microsoft-windows-powershell/operational", "powershell"),
    ("microsoft-windows-printservice/admin", "printservice-admin"),
    ("microsoft-windows-printservice/operational", "printservice-operational"),
    ("microsoft-windows-security-mitigations/kernel mode", "security-mitigations"),
    ("microsoft-windows-security-mitigations/user mode", "security-mitigations"),
    ("microsoft-windows-sense/operational", "sense"),
    ("microsoft-windows-shell-core/operational", "shell-core"),
    ("microsoft-windows-smbclient/connectivity", "smbclient-connectivity"),
    ("microsoft-windows-smbclient/security", "smbclient-security"),
    ("microsoft-windows-smbserver/connectivity", "smbserver-connectivity"),
    ("microsoft-windows-sysmon/operational", "sysmon"),
    ("microsoft-windows-taskscheduler/operational", "taskscheduler"),
    ("microsoft-windows-terminalservices-localsessionmanager/operational", "terminalservices-localsessionmanager"),
    ("microsoft-windows-vhdmp/operational", "vhdmp"),
    ("microsoft-windows-windows defender/operational", "windefend"),
    ("microsoft-windows-windows firewall with advanced security/firewall", "firewall-as"),
    ("microsoft-windows-wmi-activity/operational", "wmi"),
    ("msexchange management", "msexchange-management"),
    ("openssh/operational", "openssh"),
    ("powershellcore/operational", "powershell"),
    ("security", "security"),
    ("system", "system"),
    ("windows powershell", "powershell-classic"),
];

/// Categories by service and number of an event.
#[rustfmt::skip]
const CATEGORIES: &[(&str, u32, &[&str])] = &[
    ("sysmon", 1, &["process_creation"]),
    ("sysmon", 2, &["file_change"]),
    ("sysmon", 3, &["network_connection"]),
    ("sysmon", 4, &["sysmon_status"]),
    ("sysmon", 5, &["process_termination"]),
    ("sysmon", 6, &["driver_load"]),
    ("sysmon", 7, &["image_load"]),
    ("sysmon", 8, &["create_remote_thread"]),
    ("sysmon", 9, &["raw_access_thread"]),
    ("sysmon", 10, &["process_access"]),
    ("sysmon", 11, &["file_event"]),
    ("sysmon", 12, &["registry_add", "registry_delete", "registry_event"]),
    ("sysmon", 13, &["registry_set", "registry_event"]),
    ("sysmon", 14, &["registry_rename", "registry_event"]),
    ("sysmon", 15, &["create_stream_hash"]),
    ("sysmon", 16, &["sysmon_status"]),
    ("sysmon", 17, &["pipe_created"]),
    ("sysmon", 18, &["pipe_created"]),
    ("sysmon", 19, &["wmi_event"]),
    ("sysmon", 20, &["wmi_event"]),
    ("sysmon", 21, &["wmi_event"]),
    ("sysmon", 22, &["dns_query"]),
    ("sysmon", 23, &["file_delete"]),
    ("sysmon", 24, &["clipboard_capture"]),
    ("sysmon", 25, &["process_tampering"]),
    ("sysmon", 26, &["file_delete", "file_delete_detected"]),
    ("sysmon", 27, &["file_block_executable", "file_block"]),
    ("sysmon", 28, &["file_block_shredding"]),
    ("sysmon", 29, &["file_executable_detected"]),
    ("sysmon", 255, &["sysmon_error"]),
    ("security", 4688, &["process_creation"]),
    ("security", 4657, &["registry_set", "registry_event"]),
    ("security", 5156, &["network_connection"]),
    ("windefend", 1006, &["antivirus"]),
    ("windefend", 1015, &["antivirus"]),
    ("windefend", 1116, &["antivirus"]),
    ("windefend", 1117, &["antivirus"]),
    ("windefend", 1118, &["antivirus"]),
    ("windefend", 1119, &["antivirus"]),
    ("powershell", 4103, &["ps_module"]),
    ("powershell", 4104, &["ps_script"]),
    ("powershell-classic", 400, &["ps_classic_start"]),
    ("powershell-classic", 600, &["ps_classic_provider_start"]),
    ("powershell-classic", 800, &["ps_classic_script"]),
];

/// The log source of a Windows event.
///
/// - `channel`: in whatever case.
/// - `id`: its number.
pub fn windows(channel: &str, id: u32) -> LogSource<'static> {
    let at = SERVICES.binary_search_by(|(known, _)| known.bytes().cmp(channel.bytes().map(|byte| byte.to_ascii_lowercase())));
    let service = at.ok().and_then(|at| SERVICES.get(at)).map_or("", |(_, service)| *service);
    let categories = CATEGORIES.iter().find(|(of, number, _)| *number == id && *of == service).map_or(&[][..], |(.., found)| *found);
    LogSource { product: WINDOWS, service, categories }
}

/// True for a service or category that some Windows event is known to be of. One that is not may stand for any event whose
/// own is not known either.
pub fn is_known(service: &str, category: &str) -> bool {
    (service.is_empty() || SERVICES.iter().any(|(_, known)| *known == service))
        && (category.is_empty() || CATEGORIES.iter().any(|(.., known)| known.contains(&category)))
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_windows_event_is_placed_by_channel_and_number() {
        for (channel, id, service, categories) in [
            ("Microsoft-Windows-Sysmon/Operational", 1, "sysmon", &["process_creation"][..]),
            ("Microsoft-Windows-Sysmon/Operational", 13, "sysmon", &["registry_set", "registry_event"]),
            ("Security", 4688, "security", &["process_creation"]),
            ("SECURITY", 4624, "security", &[]),
            ("Microsoft-Windows-PowerShell/Operational", 4104, "powershell", &["ps_script"]),
            ("Some-Other/Channel", 1, "", &[]),
        ] {
            assert_eq!(windows(channel, id), LogSource { product: WINDOWS, service, categories }, "{channel}");
        }
    }

    #[test]
    fn every_channel_is_found() {
        for pair in SERVICES.windows(2) {
            assert!(pair[0].0 < pair[1].0, "{} and {} are not in order", pair[0].0, pair[1].0);
        }
        for (channel, service) in SERVICES {
            assert_eq!(windows(channel, 0).service, *service);
        }
        assert!(
            is_known("sysmon", "")
                && is_known("", "registry_add")
                && !is_known("", "file_access")
                && is_known("", "antivirus")
                && !is_known("webex", "")
        );
    }
}
