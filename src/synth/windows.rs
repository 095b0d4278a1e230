//! Windows events as the event-channel decoder leaves them, in two languages.
//!
//! Layout of the texts (labels, tabs, line ends) is that of the system's own, the words are ours.

use super::{Class, kinds::Kind, words::escape};

/// One event id from one provider.
struct Event {
    class: Class,
    weight: u32,
    id: u32,
    /// `rule.id`, level, description, then its other members.
    rule: (&'static str, u32, &'static str, &'static str),
    provider: Provider,
    task: &'static str,
    failed: bool,
    english: &'static str,
    /// Empty: the text is English on every host.
    german: &'static str,
    /// Members of `data.win` after `system`, with a leading comma, or nothing.
    data: &'static str,
}

#[derive(Clone, Copy)]
enum Provider {
    Security,
    Eventlog,
    Services,
    Licences,
    Application,
    Sysmon,
}

impl Provider {
    /// First members of `system`, its channel, its level, its keywords.
    fn parts(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Self::Security => (
                r#""providerName":"Microsoft-Windows-Security-Auditing","providerGuid":"{54849625-5478-4994-a5ba-3e3b0328c30d}""#,
                "Security",
                "0",
                "0x8020000000000000",
            ),
            Self::Eventlog => (
                r#""providerName":"Microsoft-Windows-Eventlog","providerGuid":"{fc65ddd8-d6ef-4962-83d5-6e5cfe9ce148}""#,
                "Security",
                "4",
                "0x4020000000000000",
            ),
            Self::Services => (
                r#""providerName":"Service Control Manager","providerGuid":"{555908d1-a6d7-4695-8e1e-26931d2012f4}","eventSourceName":"Service Control Manager""#,
                "System",
                "4",
                "0x8080000000000000",
            ),
            Self::Licences => (
                r#""providerName":"Microsoft-Windows-Security-SPP","providerGuid":"{E23B33B0-C8C9-472C-A5F9-F2BDFEA0F156}","eventSourceName":"Software Protection Platform Service""#,
                "Application",
                "4",
                "0x80000000000000",
            ),
            Self::Application => (r#""providerName":"<<appname>>""#, "Application", "4", "0x80000000000000"),
            Self::Sysmon => (
                r#""providerName":"Microsoft-Windows-Sysmon","providerGuid":"{5770385f-c22a-43e0-bf4c-06f5698ffbd9}""#,
                "Microsoft-Windows-Sysmon/Operational",
                "4",
                "0x8000000000000000",
            ),
        }
    }
}

/// A kind for each event and language.
pub(super) fn kinds() -> impl Iterator<Item = Kind> {
    EVENTS.iter().flat_map(|event| {
        // Two hosts of five speak German: so 28 % of a real site's lines are beyond ASCII.
        let german = (!event.german.is_empty()).then(|| event.kind(event.german, event.weight * 2 / 5));
        let english = event.kind(event.english, if german.is_some() { event.weight - event.weight * 2 / 5 } else { event.weight });
        [Some(english), german].into_iter().flatten()
    })
}

impl Event {
    fn kind(&self, message: &str, weight: u32) -> Kind {
        let (rule_id, level, description, rest) = self.rule;
        let (provider, channel, severity, keywords) = self.provider.parts();
        let (keywords, outcome) = match (self.failed, self.provider) {
            (true, _) => ("0x8010000000000000", "AUDIT_FAILURE"),
            (false, Provider::Security) => (keywords, "AUDIT_SUCCESS"),
            (false, _) => (keywords, "INFORMATION"),
        };
        let Self { id, task, data, .. } = self;
        // Lines end as Windows ends them, and the manager keeps the text's quotes.
        let message = escape(&format!("\"{}\"", message.replace('\n', "\r\n")));
        Kind {
            class: self.class,
            weight: weight.max(1),
            windows: true,
            rule: format!(r#""level":{level},"description":"{description}","id":"{rule_id}",{rest}"#),
            body: format!(
                r#""decoder":{{"name":"windows_eventchannel"}},"data":{{"win":{{"system":{{{provider},"eventID":"{id}","version":"0","level":"{severity}","task":"{task}","opcode":"0","keywords":"{keywords}","systemTime":"<<utc>>","eventRecordID":"<<record>>","processID":"<<pid>>","threadID":"<<tid>>","channel":"{channel}","computer":"<<host>>.campus.example","severityValue":"{outcome}","message":"{message}"}}{data}}}}},"location":"EventChannel""#
            ),
        }
    }
}

const LOGON: &str = r#"<<+valid>>,<<+fired>>,"groups":["windows","windows_security","authentication_success"],<<+login>>"#;
const FAILED: &str = r#""mitre":{"id":["T1531"],"tactic":["Impact"],"technique":["Account Access Removal"]},<<+fired>>,"groups":["windows","windows_security","authentication_failed"],<<+badlogin>>"#;
const WEF: &str = r#"<<+fired>>,"groups":["windows"," WEF"]"#;
const ACCOUNT: &str = r#""mitre":{"id":["T1098"],"tactic":["Persistence"],"technique":["Account Manipulation"]},<<+fired>>,"groups":["windows","windows_security","account_changed"],<<+login>>"#;
const SERVICE: &str = r#""mitre":{"id":["T1543.003"],"tactic":["Persistence","Privilege Escalation"],"technique":["Windows Service"]},<<+fired>>,"groups":["windows","windows_system"]"#;
const SYSTEM: &str = r#"<<+fired>>,"groups":["windows","windows_system"],<<+change>>"#;
const APPLICATION: &str = r#"<<+fired>>,"groups":["windows","windows_application"]"#;

macro_rules! english_subject {
    () => {
        "\n\nSubject:\n\tSecurity ID:\t\t<<sid>>\n\tAccount Name:\t\t<<winuser>>\n\tAccount Domain:\t\t<<domain>>\n\tLogon ID:\t\t0x<<LOGON>>\n"
    };
}
macro_rules! german_subject {
    () => {
        "\n\nAntragsteller:\n\tSicherheits-ID:\t\t<<sid>>\n\tKontoname:\t\t<<winuser>>\n\tKontodomäne:\t\t<<domain>>\n\tAnmelde-ID:\t\t0x<<LOGON>>\n"
    };
}
macro_rules! subject {
    () => {
        r#""subjectUserSid":"<<sid>>","subjectUserName":"<<winuser>>","subjectDomainName":"<<domain>>","subjectLogonId":"0x<<logon>>""#
    };
}

const EVENTS: &[Event] = &[
    // What dfn selects.
    Event {
        class: Class::WindowsSelected,
        weight: 14,
        id: 4625,
        rule: ("60122", 5, "Windows: logon failed", FAILED),
        provider: Provider::Security,
        task: "12544",
        failed: true,
        english: concat!(
            "An account could not log on.",
            english_subject!(),
            "\nLogon Type:\t\t\t<<logontype>>\n\nAccount That Failed:\n\tSecurity ID:\t\tS-1-0-0\n\tAccount Name:\t\t<<winuser2>>\n\tAccount Domain:\t\t<<domain2>>\n\nFailure Information:\n\tFailure Reason:\t\t<<reason>>\n\tStatus:\t\t\t0xC000006D\n\tSub Status:\t\t<<substatus>>\n\nProcess Information:\n\tCaller Process ID:\t0x<<pid>>\n\tCaller Process Name:\t<<exe>>\n\nNetwork Information:\n\tWorkstation Name:\t<<domain2>>-PC<<count>>\n\tSource Network Address:\t<<lan>>\n\tSource Port:\t\t<<port>>\n\nAuthentication:\n\tLogon Process:\t\t<<process>>\n\tAuthentication Package:\t<<package>>\n\tKey Length:\t\t0\n\nWritten on the computer where access was tried. The subject is the local process that asked, often a service; the network fields say where the request came from and may be blank."
        ),
        german: concat!(
            "Ein Konto konnte nicht angemeldet werden.",
            german_subject!(),
            "\nAnmeldetyp:\t\t\t<<logontype>>\n\nKonto, dessen Anmeldung fehlschlug:\n\tSicherheits-ID:\t\tS-1-0-0\n\tKontoname:\t\t<<winuser2>>\n\tKontodomäne:\t\t<<domain2>>\n\nFehlerangaben:\n\tFehlerursache:\t\t<<reason>>\n\tStatus:\t\t\t0xC000006D\n\tUnterstatus:\t\t<<substatus>>\n\nProzessangaben:\n\tAufrufende Prozess-ID:\t0x<<pid>>\n\tAufrufender Prozess:\t<<exe>>\n\nNetzwerkangaben:\n\tArbeitsstation:\t<<domain2>>-PC<<count>>\n\tQuelladresse:\t<<lan>>\n\tQuellport:\t\t<<port>>\n\nAuthentifizierung:\n\tAnmeldeprozess:\t\t<<process>>\n\tPaket:\t<<package>>\n\tSchlüssellänge:\t\t0\n\nGeschrieben auf dem Rechner, auf den zugegriffen werden sollte. Der Antragsteller ist der örtliche Prozess, der die Anmeldung wünschte, häufig ein Dienst; die Netzwerkangaben nennen die Herkunft und können leer sein."
        ),
        data: concat!(
            r#","eventdata":{"#,
            subject!(),
            r#","targetUserSid":"S-1-0-0","targetUserName":"<<winuser2>>","targetDomainName":"<<domain2>>","status":"0xc000006d","failureReason":"<<reason>>","subStatus":"<<substatus>>","logonType":"<<logontype>>","logonProcessName":"<<process>>","authenticationPackageName":"<<package>>","workstationName":"<<domain2>>-PC<<count>>","keyLength":"0","processId":"0x<<pid>>","processName":"<<exe!>>","ipAddress":"<<lan>>","ipPort":"<<port>>"}"#
        ),
    },
    Event {
        class: Class::WindowsSelected,
        weight: 6,
        id: 4625,
        rule: ("60122", 5, "Windows: logon failed", FAILED),
        provider: Provider::Security,
        task: "12544",
        failed: true,
        english: concat!(
            "An account could not log on.",
            english_subject!(),
            "\nLogon Type:\t\t\t2\n\nFailure Information:\n\tFailure Reason:\t\t<<reason>>\n\tSub Status:\t\t<<substatus>>"
        ),
        german: concat!(
            "Ein Konto konnte nicht angemeldet werden.",
            german_subject!(),
            "\nAnmeldetyp:\t\t\t2\n\nFehlerangaben:\n\tFehlerursache:\t\t<<reason>>\n\tUnterstatus:\t\t<<substatus>>"
        ),
        // At the console there is no address: the manager leaves `-` out.
        data: concat!(
            r#","eventdata":{"#,
            subject!(),
            r#","targetUserSid":"S-1-0-0","targetUserName":"<<winuser2>>","targetDomainName":"<<domain2>>","status":"0xc000006d","failureReason":"<<reason>>","subStatus":"<<substatus>>","logonType":"2","logonProcessName":"<<process>>","authenticationPackageName":"<<package>>","keyLength":"0","processId":"0x<<pid>>","processName":"<<exe!>>"}"#
        ),
    },
    Event {
        class: Class::WindowsSelected,
        weight: 22,
        id: 4672,
        rule: ("67028", 3, "Windows: special rights at logon", WEF),
        provider: Provider::Security,
        task: "12548",
        failed: false,
        english: concat!(
            "A new logon was given special rights.",
            english_subject!(),
            "\nPrivileges:\t\t<<privilege>>\n\t\t\tSeRestorePrivilege\n\t\t\tSeSystemEnvironmentPrivilege\n\t\t\tSeImpersonatePrivilege"
        ),
        german: concat!(
            "Einer neuen Anmeldung wurden besondere Rechte zugewiesen.",
            german_subject!(),
            "\nBerechtigungen:\t\t<<privilege>>\n\t\t\tSeRestorePrivilege\n\t\t\tSeSystemEnvironmentPrivilege\n\t\t\tSeImpersonatePrivilege"
        ),
        data: concat!(
            r#","eventdata":{"#,
            subject!(),
            r#","privilegeList":"<<privilege>>     SeRestorePrivilege     SeSystemEnvironmentPrivilege     SeImpersonatePrivilege"}"#
        ),
    },
    Event {
        class: Class::WindowsSelected,
        weight: 2,
        id: 4720,
        rule: ("60109", 8, "Windows: user account created", ACCOUNT),
        provider: Provider::Security,
        task: "13824",
        failed: false,
        english: concat!(
            "An account was made.",
            english_subject!(),
            "\nNew Account:\n\tSecurity ID:\t\t<<sid2>>\n\tAccount Name:\t\t<<newuser>>\n\tAccount Domain:\t\t<<domain>>\n\nAttributes:\n\tSAM Account Name:\t<<newuser>>\n\tPassword Last Set:\t-\n\tPrimary Group ID:\t513\n\tOld UAC Value:\t\t0x0\n\tNew UAC Value:\t\t0x15"
        ),
        german: concat!(
            "Ein Konto wurde angelegt.",
            german_subject!(),
            "\nNeues Konto:\n\tSicherheits-ID:\t\t<<sid2>>\n\tKontoname:\t\t<<newuser>>\n\tKontodomäne:\t\t<<domain>>\n\nAttribute:\n\tSAM-Kontoname:\t<<newuser>>\n\tKennwort zuletzt geändert:\t-\n\tPrimäre Gruppe:\t513\n\tAlter UAC-Wert:\t\t0x0\n\tNeuer UAC-Wert:\t\t0x15"
        ),
        data: concat!(
            r#","eventdata":{"targetUserName":"<<newuser>>","targetDomainName":"<<domain>>","targetSid":"<<sid2>>","#,
            subject!(),
            r#","samAccountName":"<<newuser>>","displayName":"%%1793","userPrincipalName":"<<newuser>>@campus.example","homeDirectory":"%%1793","passwordLastSet":"%%1794","accountExpires":"%%1794","primaryGroupId":"513","oldUacValue":"0x0","newUacValue":"0x15","userAccountControl":"%%2080 %%2082 %%2084","logonHours":"%%1793"}"#
        ),
    },
    Event {
        class: Class::WindowsSelected,
        weight: 2,
        id: 4724,
        rule: ("60110", 8, "Windows: password reset by another account", ACCOUNT),
        provider: Provider::Security,
        task: "13824",
        failed: false,
        english: concat!(
            "A password was to be reset.",
            english_subject!(),
            "\nTarget Account:\n\tSecurity ID:\t\t<<sid2>>\n\tAccount Name:\t\t<<newuser>>\n\tAccount Domain:\t\t<<domain>>"
        ),
        german: concat!(
            "Ein Kennwort sollte zurückgesetzt werden.",
            german_subject!(),
            "\nZielkonto:\n\tSicherheits-ID:\t\t<<sid2>>\n\tKontoname:\t\t<<newuser>>\n\tKontodomäne:\t\t<<domain>>"
        ),
        data: concat!(
            r#","eventdata":{"targetUserName":"<<newuser>>","targetDomainName":"<<domain>>","targetSid":"<<sid2>>","#,
            subject!(),
            "}"
        ),
    },
    Event {
        class: Class::WindowsSelected,
        weight: 1,
        id: 1102,
        rule: (
            "63103",
            5,
            "Windows: audit log cleared",
            r#""mitre":{"id":["T1070"],"tactic":["Defense Evasion"],"technique":["Indicator Removal"]},<<+fired>>,"groups":["windows","windows_security","log_clearing_auditlog"],<<+change>>"#,
        ),
        provider: Provider::Eventlog,
        task: "104",
        failed: false,
        english: "The audit log was emptied.\nSubject:\n\tSecurity ID:\t<<sid>>\n\tAccount Name:\t<<winuser>>\n\tDomain Name:\t<<domain>>\n\tLogon ID:\t0x<<LOGON>>",
        german: "Das Überwachungsprotokoll wurde geleert.\nAntragsteller:\n\tSicherheits-ID:\t<<sid>>\n\tKontoname:\t<<winuser>>\n\tDomäne:\t<<domain>>\n\tAnmelde-ID:\t0x<<LOGON>>",
        data: concat!(r#","logFileCleared":{"#, subject!(), r#","clientProcessId":"<<pid>>","clientProcessStartKey":"<<big>>"}"#),
    },
    Event {
        class: Class::WindowsSelected,
        weight: 1,
        id: 1100,
        rule: ("63102", 3, "Windows: event log service stopped", r#"<<+fired>>,"groups":["windows","windows_security"]"#),
        provider: Provider::Eventlog,
        task: "103",
        failed: false,
        english: "The event log service has been stopped.",
        german: "Der Ereignisprotokolldienst wurde beendet. Bis zu seinem nächsten Start fehlen Einträge für diesen Rechner.",
        // An empty element leaves nothing: there is `system` only.
        data: "",
    },
    Event {
        class: Class::WindowsSelected,
        weight: 2,
        id: 4697,
        rule: ("60130", 5, "Windows: service installed", SERVICE),
        provider: Provider::Security,
        task: "12289",
        failed: false,
        english: concat!(
            "A service was set up.",
            english_subject!(),
            "\nService Information:\n\tService Name:\t\t<<service>>\n\tService File Name:\t<<exe>>\n\tService Type:\t\t0x10\n\tService Start Type:\t2\n\tService Account:\t\tLocalSystem"
        ),
        german: concat!(
            "Ein Dienst wurde eingerichtet.",
            german_subject!(),
            "\nDienstangaben:\n\tDienstname:\t\t<<service>>\n\tDatei:\t<<exe>>\n\tDiensttyp:\t\t0x10\n\tStarttyp:\t2\n\tDienstkonto:\t\tLocalSystem"
        ),
        data: concat!(
            r#","eventdata":{"#,
            subject!(),
            r#","serviceName":"<<service>>","serviceFileName":"<<exe!>>","serviceType":"0x10","serviceStartType":"2","serviceAccount":"LocalSystem"}"#
        ),
    },
    Event {
        class: Class::WindowsSelected,
        weight: 2,
        id: 4698,
        rule: ("60228", 3, "Windows: scheduled task created", SYSTEM),
        provider: Provider::Security,
        task: "12804",
        failed: false,
        english: concat!(
            "A task was scheduled.",
            english_subject!(),
            "\nTask Information:\n\tTask Name:\t\t<<task>>\n\tTask Content:\t\t<Task><RegistrationInfo><Author><<domain>>\\<<winuser>></Author><URI><<task>></URI></RegistrationInfo><Triggers><CalendarTrigger><StartBoundary><<bare>></StartBoundary><Enabled>true</Enabled></CalendarTrigger></Triggers><Principals><Principal id=\"Author\"><RunLevel>HighestAvailable</RunLevel></Principal></Principals><Actions><Exec><Command><<exe>></Command></Exec></Actions></Task>"
        ),
        german: concat!(
            "Eine Aufgabe wurde geplant.",
            german_subject!(),
            "\nAufgabe:\n\tName:\t\t<<task>>\n\tInhalt für Gerät:\t\t<Task><RegistrationInfo><Author><<domain>>\\<<winuser>></Author><URI><<task>></URI></RegistrationInfo><Triggers><CalendarTrigger><StartBoundary><<bare>></StartBoundary><Enabled>true</Enabled></CalendarTrigger></Triggers><Principals><Principal id=\"Author\"><RunLevel>HighestAvailable</RunLevel></Principal></Principals><Actions><Exec><Command><<exe>></Command></Exec></Actions></Task>"
        ),
        data: concat!(
            r#","eventdata":{"#,
            subject!(),
            r#","taskName":"<<task!>>","taskContent":"<Task><RegistrationInfo><Author><<domain>>\\\\<<winuser>></Author><URI><<task!>></URI></RegistrationInfo><Triggers><CalendarTrigger><StartBoundary><<bare>></StartBoundary><Enabled>true</Enabled></CalendarTrigger></Triggers><Principals><Principal id=\\\"Author\\\"><RunLevel>HighestAvailable</RunLevel></Principal></Principals><Actions><Exec><Command><<exe!>></Command></Exec></Actions></Task>","clientProcessId":"<<pid>>","parentProcessId":"<<pid2>>","rpcCallClientLocality":"0","fQDN":"<<host>>.campus.example"}"#
        ),
    },
    Event {
        class: Class::WindowsSelected,
        weight: 1,
        id: 4719,
        rule: ("60112", 8, "Windows: audit policy changed", SYSTEM),
        provider: Provider::Security,
        task: "13568",
        failed: false,
        english: concat!(
            "The audit policy was changed.",
            english_subject!(),
            "\nAudit Policy Change:\n\tCategory:\t\t%%8273\n\tSubcategory GUID:\t<<policy>>\n\tChanges:\t\t%%8449"
        ),
        german: concat!(
            "Die Überwachungsrichtlinie wurde geändert.",
            german_subject!(),
            "\nÄnderung:\n\tKategorie:\t\t%%8273\n\tUnterkategorie:\t<<policy>>\n\tÄnderungen:\t\t%%8449"
        ),
        data: concat!(
            r#","eventdata":{"#,
            subject!(),
            r#","categoryId":"%%8273","subcategoryId":"%%12544","subcategoryGuid":"<<policy>>","auditPolicyChanges":"Success added","category":"Logon/Logoff","subcategory":"Logon","auditPolicyChangesId":"%%8449"}"#
        ),
    },
    // What it does not.
    Event {
        class: Class::WindowsOther,
        weight: 60,
        id: 4624,
        rule: ("60106", 3, "Windows: logon", LOGON),
        provider: Provider::Security,
        task: "12544",
        failed: false,
        english: concat!(
            "An account has logged on.",
            english_subject!(),
            "\nLogon Information:\n\tLogon Type:\t\t<<logontype>>\n\tRestricted Admin Mode:\t-\n\tVirtual Account:\t\tNo\n\tElevated Token:\t\tYes\n\nImpersonation Level:\t\tImpersonation\n\nNew Logon:\n\tSecurity ID:\t\t<<sid2>>\n\tAccount Name:\t\t<<winuser2>>\n\tAccount Domain:\t\t<<domain>>\n\tLogon ID:\t\t0x<<LOGON2>>\n\tLinked Logon ID:\t\t0x0\n\tLogon GUID:\t\t<<guid>>\n\nProcess Information:\n\tProcess ID:\t\t0x<<pid>>\n\tProcess Name:\t\t<<exe>>\n\nNetwork Information:\n\tWorkstation Name:\t-\n\tSource Network Address:\t<<lan>>\n\tSource Port:\t\t<<port>>\n\nAuthentication:\n\tLogon Process:\t\t<<process>>\n\tAuthentication Package:\t<<package>>\n\tKey Length:\t\t0\n\nWritten when a session begins, on the computer that was reached. The subject asked for it; the new logon is for whom. Type 2 is at the console, 3 over the network. The network fields may be blank."
        ),
        german: concat!(
            "Ein Konto hat sich angemeldet.",
            german_subject!(),
            "\nAnmeldeangaben:\n\tAnmeldetyp:\t\t<<logontype>>\n\tEingeschränkter Verwaltungsmodus:\t-\n\tVirtuelles Konto:\t\tNein\n\tToken mit erhöhten Rechten:\t\tJa\n\nIdentitätswechselebene:\t\tIdentitätswechsel\n\nNeue Anmeldung:\n\tSicherheits-ID:\t\t<<sid2>>\n\tKontoname:\t\t<<winuser2>>\n\tKontodomäne:\t\t<<domain>>\n\tAnmelde-ID:\t\t0x<<LOGON2>>\n\tVerknüpfte Anmelde-ID:\t\t0x0\n\tAnmelde-GUID:\t\t<<guid>>\n\nProzessangaben:\n\tProzess-ID:\t\t0x<<pid>>\n\tProzessname:\t\t<<exe>>\n\nNetzwerkangaben:\n\tArbeitsstation:\t-\n\tQuelladresse:\t<<lan>>\n\tQuellport:\t\t<<port>>\n\nAuthentifizierung:\n\tAnmeldeprozess:\t\t<<process>>\n\tPaket:\t<<package>>\n\tSchlüssellänge:\t\t0\n\nGeschrieben, wenn eine Sitzung beginnt, auf dem Rechner, auf den zugegriffen wurde. Der Antragsteller wünschte sie; die neue Anmeldung sagt, für wen. Typ 2 ist an der Konsole, 3 über das Netzwerk. Die Netzwerkangaben können leer sein."
        ),
        data: concat!(
            r#","eventdata":{"#,
            subject!(),
            r#","targetUserSid":"<<sid2>>","targetUserName":"<<winuser2>>","targetDomainName":"<<domain>>","targetLogonId":"0x<<logon2>>","logonType":"<<logontype>>","logonProcessName":"<<process>>","authenticationPackageName":"<<package>>","logonGuid":"<<guid>>","keyLength":"0","processId":"0x<<pid>>","processName":"<<exe!>>","ipAddress":"<<lan>>","ipPort":"<<port>>","impersonationLevel":"%%1833","virtualAccount":"%%1843","targetLinkedLogonId":"0x0","elevatedToken":"%%1842"}"#
        ),
    },
    Event {
        class: Class::WindowsOther,
        weight: 48,
        id: 4634,
        rule: ("60137", 3, "Windows: logoff", WEF),
        provider: Provider::Security,
        task: "12545",
        failed: false,
        english: concat!(
            "An account has logged off.",
            english_subject!(),
            "\nLogon Type:\t\t\t<<logontype>>\n\nWritten when a session ends. Its Logon ID ties it to the logon."
        ),
        german: concat!(
            "Ein Konto hat sich abgemeldet.",
            german_subject!(),
            "\nAnmeldetyp:\t\t\t<<logontype>>\n\nGeschrieben, wenn eine Sitzung endet. Die Anmelde-ID gehört zur früheren Anmeldung."
        ),
        data: r#","eventdata":{"targetUserSid":"<<sid>>","targetUserName":"<<winuser>>","targetDomainName":"<<domain>>","targetLogonId":"0x<<logon>>","logonType":"<<logontype>>"}"#,
    },
    Event {
        class: Class::WindowsOther,
        weight: 80,
        id: 4688,
        rule: ("67027", 3, "Windows: process created", WEF),
        provider: Provider::Security,
        task: "13312",
        failed: false,
        english: concat!(
            "A process was started.",
            english_subject!(),
            "\nProcess Information:\n\tNew Process ID:\t\t0x<<pid2>>\n\tNew Process Name:\t<<exe>>\n\tToken Elevation Type:\t%%1936\n\tCreator Process ID:\t0x<<pid>>\n\tCreator Process Name:\t<<exe2>>\n\tProcess Command Line:\t<<command>>"
        ),
        german: concat!(
            "Ein Prozess wurde gestartet.",
            german_subject!(),
            "\nProzessangaben:\n\tNeue Prozess-ID:\t\t0x<<pid2>>\n\tName:\t<<exe>>\n\tTyp der Rechteerhöhung:\t%%1936\n\tErzeuger-ID:\t0x<<pid>>\n\tErzeuger:\t<<exe2>>\n\tBefehlszeile:\t<<command>>"
        ),
        data: concat!(
            r#","eventdata":{"#,
            subject!(),
            r#","newProcessId":"0x<<pid2>>","newProcessName":"<<exe!>>","tokenElevationType":"%%1936","processId":"0x<<pid>>","commandLine":"<<command!>>","targetUserSid":"S-1-0-0","parentProcessName":"<<exe2!>>","mandatoryLabel":"S-1-16-16384"}"#
        ),
    },
    Event {
        class: Class::WindowsOther,
        weight: 70,
        id: 16384,
        rule: ("60642", 3, "Software protection: restart planned", APPLICATION),
        provider: Provider::Licences,
        task: "0",
        failed: false,
        english: "The licence service will start again at <<utc>>. Reason: RulesEngine.",
        german: "Der Lizenzdienst wird für <<utc>> wieder eingeplant. Grund: Regelprüfung.",
        data: r#","eventdata":{"data":"<<utc>>, RulesEngine"}"#,
    },
    Event {
        class: Class::WindowsOther,
        weight: 30,
        id: 7040,
        rule: ("61104", 3, "Windows: start type of a service changed", SYSTEM),
        provider: Provider::Services,
        task: "0",
        failed: false,
        english: "Start type of service <<service>> is now <<starttype>>.",
        german: "Der Starttyp des Dienstes <<service>> wurde geändert: <<starttype>>.",
        data: r#","eventdata":{"param1":"<<service>>","param2":"<<starttype2>>","param3":"<<starttype>>","param4":"<<service>>"}"#,
    },
    Event {
        class: Class::WindowsOther,
        weight: 6,
        id: 7045,
        rule: ("61138", 5, "Windows: new service", SERVICE),
        provider: Provider::Services,
        task: "0",
        failed: false,
        english: "A service is new on this system.\n\nService Name:  <<service>>\nService File Name:  <<exe>>\nService Type:  user mode service\nService Start Type:  <<starttype>>\nService Account:  LocalSystem",
        german: "Auf diesem System gibt es einen neuen Dienst.\n\nDienstname:  <<service>>\nDatei:  <<exe>>\nDiensttyp:  Benutzermodusdienst\nStarttyp für den Dienst:  <<starttype>>\nDienstkonto:  LocalSystem",
        data: r#","eventdata":{"serviceName":"<<service>>","imagePath":"<<exe!>>","serviceType":"0x10","startType":"<<starttype>>","accountName":"LocalSystem"}"#,
    },
    Event {
        class: Class::WindowsOther,
        weight: 26,
        id: 8224,
        rule: ("60702", 5, "Windows: an idle service ends itself", APPLICATION),
        provider: Provider::Application,
        task: "0",
        failed: false,
        english: "<<appname>> had nothing to do and ends itself.",
        german: "<<appname>> war untätig und wird beendet. Nächster Start bei Bedarf.",
        data: r#","eventdata":{"binary":"<<sha256>><<sha2561>><<sha2562>><<sha2563>><<sha2564>>"}"#,
    },
    Event {
        class: Class::WindowsOther,
        weight: 14,
        id: 1000,
        rule: ("60602", 9, "Windows: application error", APPLICATION),
        provider: Provider::Application,
        task: "100",
        failed: false,
        english: "Faulting application: <<exe>>, version 10.0.<<pid>>\nFaulting module: ntdll.dll\nException: 0xc0000005\nOffset: 0x<<hex>>\nReport: <<guid>>",
        german: "Fehlerhafte Anwendung: <<exe>>, Version 10.0.<<pid>>\nFehlerhaftes Modul: ntdll.dll\nAusnahme: 0xc0000005\nSprungweite: 0x<<hex>>\nBerichtskennung für Rückfragen: <<guid>>",
        data: r#","eventdata":{"data":"<<exe!>>, 10.0.<<pid>>, ntdll.dll, c0000005, <<hex>>, <<guid>>"}"#,
    },
    Event {
        class: Class::WindowsOther,
        weight: 30,
        id: 1,
        rule: (
            "92052",
            4,
            "Sysmon: process started",
            r#""mitre":{"id":["T1059.003"],"tactic":["Execution"],"technique":["Windows Command Shell"]},<<+fired>>,"groups":["sysmon","sysmon_eid1_detections","windows"]"#,
        ),
        provider: Provider::Sysmon,
        task: "1",
        failed: false,
        english: "Process Create:\nRuleName: -\nUtcTime: <<plain>>.<<ms>>\nProcessGuid: <<guid>>\nProcessId: <<pid>>\nImage: <<exe>>\nFileVersion: 10.0.<<pid2>>\nDescription: Hausnetz\nCompany: -\nCommandLine: <<command>>\nCurrentDirectory: C:\\Windows\\System32\\\nUser: <<domain>>\\<<winuser>>\nLogonGuid: <<guid2>>\nLogonId: 0x<<LOGON>>\nTerminalSessionId: 1\nIntegrityLevel: System\nHashes: SHA1=<<sha1>>,MD5=<<md5>>,SHA256=<<sha256>>,IMPHASH=<<md51>>\nParentProcessGuid: <<guid3>>\nParentProcessId: <<pid3>>\nParentImage: <<exe2>>\nParentCommandLine: <<command2>>",
        german: "",
        data: r#","eventdata":{"utcTime":"<<plain>>.<<ms>>","processGuid":"<<guid>>","processId":"<<pid>>","image":"<<exe!>>","fileVersion":"10.0.<<pid2>>","description":"Hausnetz","commandLine":"<<command!>>","currentDirectory":"C:\\\\Windows\\\\System32\\\\","user":"<<domain>>\\\\<<winuser>>","logonGuid":"<<guid2>>","logonId":"0x<<logon>>","terminalSessionId":"1","integrityLevel":"System","hashes":"SHA1=<<sha1>>,MD5=<<md5>>,SHA256=<<sha256>>,IMPHASH=<<md51>>","parentProcessGuid":"<<guid3>>","parentProcessId":"<<pid3>>","parentImage":"<<exe2!>>","parentCommandLine":"<<command2!>>"}"#,
    },
];
