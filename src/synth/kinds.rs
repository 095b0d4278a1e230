//! What alerts there are: one row a kind, with its weight in the natural mix.
//!
//! Weights are shares of the natural mix (about 1/1000 each), taken from how often rules fire on two sites that
//! watch Windows registries, with the web, fail2ban and logon noise of a host on the internet
//! added. Texts are ours; keys, their order and their types are the manager's.

use super::{Class, windows};

/// One kind of alert.
#[derive(Debug)]
pub(super) struct Kind {
    pub class: Class,
    /// Share in the natural mix, relative to the others.
    pub weight: u32,
    /// True if the agent is a Windows host.
    pub windows: bool,
    /// Members of `rule` but for the braces.
    pub rule: String,
    /// Members after `id`.
    pub body: String,
}

impl Kind {
    /// The whole line, as a template.
    pub(super) fn line(&self) -> String {
        format!(
            "{{\"timestamp\":\"<<ts>>\",\"rule\":{{{}}},\"agent\":{{<<agent>>}},\"manager\":{{\"name\":\"<<manager>>\"}},\"id\":\"<<epoch>>.<<ordinal>>\",{}}}\n",
            self.rule, self.body
        )
    }
}

/// Every kind, in a fixed order.
pub(super) fn all() -> Vec<Kind> {
    let linux = LINUX.iter().map(|row| (row, false));
    let registry = REGISTRY.iter().map(|row| (row, true));
    let rows = linux.chain(registry).map(|(&(class, weight, rule, body), windows)| Kind {
        class,
        weight,
        windows,
        rule: rule.into(),
        body: body.into(),
    });
    rows.chain(windows::kinds()).collect()
}

/// Parts that many templates share.
pub(super) const FRAGMENTS: &[(&str, &str)] = &[
    ("fired", r#""firedtimes":<<fired>>,"mail":false"#),
    (
        "login",
        r#""pci_dss":["10.2.5"],"gpg13":["7.1","7.2"],"gdpr":["IV_32.2"],"hipaa":["164.312.b"],"nist_800_53":["AU.14","AC.7"],"tsc":["CC6.8","CC7.2","CC7.3"]"#,
    ),
    (
        "badlogin",
        r#""pci_dss":["10.2.4","10.2.5"],"gpg13":["7.1"],"gdpr":["IV_35.7.d","IV_32.2"],"hipaa":["164.312.b"],"nist_800_53":["AU.14","AC.7"],"tsc":["CC6.1","CC6.8","CC7.2","CC7.3"]"#,
    ),
    (
        "change",
        r#""pci_dss":["10.6.1","10.2.7"],"gpg13":["4.10"],"gdpr":["IV_35.7.d"],"hipaa":["164.312.b"],"nist_800_53":["AU.6","AU.14"],"tsc":["CC7.2","CC7.3","CC6.8","CC8.1"]"#,
    ),
    (
        "integrity",
        r#""pci_dss":["11.5"],"gpg13":["4.13"],"gdpr":["II_5.1.f"],"hipaa":["164.312.c.1","164.312.c.2"],"nist_800_53":["SI.7"],"tsc":["PI1.4","PI1.5","CC6.1","CC6.8","CC7.2","CC7.3"]"#,
    ),
    (
        "brute",
        r#""mitre":{"id":["T1110.001","T1021.004"],"tactic":["Credential Access","Lateral Movement"],"technique":["Password Guessing","SSH"]}"#,
    ),
    (
        "stored",
        r#""mitre":{"id":["T1565.001","T1112"],"tactic":["Impact","Defense Evasion"],"technique":["Stored Data Manipulation","Modify Registry"]}"#,
    ),
    ("modreg", r#""mitre":{"id":["T1112"],"tactic":["Defense Evasion"],"technique":["Modify Registry"]}"#),
    (
        "valid",
        r#""mitre":{"id":["T1078"],"tactic":["Defense Evasion","Persistence","Privilege Escalation","Initial Access"],"technique":["Valid Accounts"]}"#,
    ),
    (
        "winperm",
        r#""win_perm_after":[{"name":"Benutzer","allowed":["GENERIC_READ","READ_CONTROL","READ_DATA","READ_EA","WRITE_EA"]},{"name":"Administratoren","allowed":["GENERIC_ALL","DELETE","READ_CONTROL","WRITE_DAC","WRITE_OWNER","READ_DATA","WRITE_DATA","APPEND_DATA","READ_EA","WRITE_EA","EXECUTE"]},{"name":"SYSTEM","allowed":["GENERIC_ALL","DELETE","READ_CONTROL","WRITE_DAC","WRITE_OWNER","READ_DATA","WRITE_DATA","APPEND_DATA","READ_EA","WRITE_EA","EXECUTE"]},{"name":"<<group>>","allowed":["GENERIC_READ","READ_CONTROL","READ_DATA","READ_EA","WRITE_EA"]},{"name":"<<sid>>","allowed":["GENERIC_READ","READ_CONTROL","READ_DATA","READ_EA","WRITE_EA"]}]"#,
    ),
    ("system", r#""uid_after":"S-1-5-18","gid_after":"S-1-5-18","uname_after":"SYSTEM","gname_after":"SYSTEM""#),
    (
        "sums",
        r#""md5_before":"<<md5>>","md5_after":"<<md51>>","sha1_before":"<<sha1>>","sha1_after":"<<sha12>>","sha256_before":"<<sha256>>","sha256_after":"<<sha2561>>""#,
    ),
    (
        "sumlog",
        r"Old md5sum was: '<<md5>>'\nNew md5sum is : '<<md51>>'\nOld sha1sum was: '<<sha1>>'\nNew sha1sum is : '<<sha12>>'\nOld sha256sum was: '<<sha256>>'\nNew sha256sum is : '<<sha2561>>'\n",
    ),
    (
        "sshd",
        r#""predecoder":{"program_name":"sshd","timestamp":"<<syslog>>","hostname":"<<host>>"},"decoder":{"parent":"sshd","name":"sshd"}"#,
    ),
    (
        "pam",
        r#""predecoder":{"program_name":"sshd","timestamp":"<<syslog>>","hostname":"<<host>>"},"decoder":{"parent":"pam","name":"pam"}"#,
    ),
    ("vulnerable", r#""groups":["vulnerability-detector"],"gdpr":["IV_35.7.d"],"pci_dss":["11.2.1","11.2.3"],"tsc":["CC7.1","CC7.2"]"#),
    (
        "cvedata",
        r#""cve":"CVE-<<year>>-<<cve>>","cvss":{"cvss3":{"base_score":"<<base>>","vector":{"attack_vector":"NETWORK","availability":"HIGH","confidentiality_impact":"HIGH","integrity_impact":"HIGH","privileges_required":"NONE","scope":"UNCHANGED","user_interaction":"NONE"}}},"enumeration":"CVE","package":{"architecture":"<<arch>>","condition":"Package default status","name":"<<pkg>>","source":"<<pkg>>","version":"<<version>>"},"published":"<<year>>-05-<<two>>T13:15:22Z""#,
    ),
];

type Row = (Class, u32, &'static str, &'static str);

const fn other(weight: u32, rule: &'static str, body: &'static str) -> Row {
    (Class::Other, weight, rule, body)
}

/// Kinds that Linux agents and the manager itself report.
const LINUX: &[Row] = &[
    // fail2ban: a site's own decoder and rules; the log file's own form, as 0.11 and 0.8 pad it.
    (
        Class::Ban,
        14,
        r#""level":5,"description":"fail2ban: <<ip>> banned from <<jail>>","id":"100210",<<+fired>>,"groups":["syslog","fail2ban"]"#,
        r#""full_log":"<<plain>>,<<ms>> fail2ban.actions        [<<pid>>]: NOTICE  [<<jail>>] Ban <<ip>>","decoder":{"name":"fail2ban-site"},"data":{"srcip":"<<ip>>","severity":"NOTICE","actiontaken":"Ban","service":"<<jail>>","program_name":"fail2ban.actions","pid":"<<pid>>"},"location":"/var/log/fail2ban.log""#,
    ),
    (
        Class::Ban,
        8,
        r#""level":4,"description":"fail2ban: <<ip>> unbanned from <<jail>>","id":"100211",<<+fired>>,"groups":["syslog","fail2ban"]"#,
        r#""full_log":"<<plain>>,<<ms>> fail2ban.actions        [<<pid>>]: NOTICE  [<<jail>>] Unban <<ip>>","decoder":{"name":"fail2ban-site"},"data":{"srcip":"<<ip>>","severity":"NOTICE","actiontaken":"Unban","service":"<<jail>>","program_name":"fail2ban.actions","pid":"<<pid>>"},"location":"/var/log/fail2ban.log""#,
    ),
    (
        Class::Ban,
        3,
        r#""level":5,"description":"fail2ban: <<ip>> banned again from <<jail>>","id":"100212",<<+fired>>,"groups":["syslog","fail2ban"]"#,
        r#""full_log":"fail2ban: <<plain>>,<<ms>> fail2ban.actions        [<<pid>>]: NOTICE  [<<jail>>] Restore Ban <<ip>>","decoder":{"name":"fail2ban-site"},"data":{"srcip":"<<ip>>","severity":"NOTICE","actiontaken":"Restore Ban","service":"<<jail>>","program_name":"fail2ban.actions","pid":"<<pid>>"},"location":"/var/log/fail2ban.log""#,
    ),
    (
        Class::Ban,
        3,
        r#""level":5,"description":"fail2ban: <<ipv6>> banned from <<jail>>","id":"100210",<<+fired>>,"groups":["syslog","fail2ban"]"#,
        r#""full_log":"fail2ban: <<plain>>,<<ms>> fail2ban.actions        [<<pid>>]: NOTICE  [<<jail>>] Ban <<ipv6>>","decoder":{"name":"fail2ban-site"},"data":{"srcip":"<<ipv6>>","severity":"NOTICE","actiontaken":"Ban","service":"<<jail>>","program_name":"fail2ban.actions","pid":"<<pid>>"},"location":"/var/log/fail2ban.log""#,
    ),
    (
        Class::Ban,
        3,
        r#""level":6,"description":"fail2ban: <<ip>> banned from <<jail>>","id":"100210",<<+fired>>,"groups":["syslog","fail2ban"]"#,
        r#""full_log":"<<plain>>,<<ms>> fail2ban.actions[<<pid>>]: WARNING [<<jail>>] Ban <<ip>>","decoder":{"name":"fail2ban-site"},"data":{"srcip":"<<ip>>","severity":"WARNING","actiontaken":"Ban","service":"<<jail>>","program_name":"fail2ban.actions","pid":"<<pid>>"},"location":"/var/log/fail2ban.log""#,
    ),
    (
        Class::Ban,
        1,
        r#""level":5,"description":"fail2ban: <<lan>> banned from <<jail>>","id":"100210",<<+fired>>,"groups":["syslog","fail2ban"]"#,
        r#""full_log":"<<plain>>,<<ms>> fail2ban.actions        [<<pid>>]: NOTICE  [<<jail>>] Ban <<lan>>","decoder":{"name":"fail2ban-site"},"data":{"srcip":"<<lan>>","severity":"NOTICE","actiontaken":"Ban","service":"<<jail>>","program_name":"fail2ban.actions","pid":"<<pid>>"},"location":"/var/log/fail2ban.log""#,
    ),
    // What fail2ban's filter finds is no ban: dfn does not take it.
    other(
        12,
        r#""level":7,"description":"fail2ban: <<ip>> found by <<jail>>","id":"100209",<<+fired>>,"groups":["syslog","fail2ban","fail2ban-found"]"#,
        r#""full_log":"<<plain>>,<<ms>> fail2ban.filter         [<<pid>>]: INFO    [<<jail>>] Found <<ip>> - <<plain>>","decoder":{"name":"fail2ban-site"},"data":{"srcip":"<<ip>>","severity":"INFO","actiontaken":"Found","service":"<<jail>>","program_name":"fail2ban.filter","pid":"<<pid>>"},"location":"/var/log/fail2ban.log""#,
    ),
    // sshd, PAM, sudo.
    other(
        14,
        r#""level":5,"description":"sshd: unknown user tried to log in","id":"5710",<<+brute>>,<<+fired>>,"groups":["syslog","sshd","authentication_failed","invalid_login"],<<+badlogin>>"#,
        r#""full_log":"<<syslog>> <<host>> sshd[<<pid>>]: Invalid user <<stranger>> from <<ip>> port <<port>>",<<+sshd>>,"data":{"srcip":"<<ip>>","srcport":"<<port>>","srcuser":"<<stranger>>"},"location":"journald""#,
    ),
    other(
        10,
        r#""level":5,"description":"sshd: wrong password","id":"5760",<<+brute>>,<<+fired>>,"groups":["syslog","sshd","authentication_failed"],<<+badlogin>>"#,
        r#""full_log":"<<syslog>> <<host>> sshd[<<pid>>]: Failed password for <<user>> from <<ip>> port <<port>> ssh2",<<+sshd>>,"data":{"srcip":"<<ip>>","srcport":"<<port>>","dstuser":"<<user>>"},"location":"journald""#,
    ),
    other(
        4,
        r#""level":3,"description":"sshd: logged in","id":"5715",<<+valid>>,<<+fired>>,"groups":["syslog","sshd","authentication_success"],<<+login>>"#,
        r#""full_log":"<<syslog>> <<host>> sshd[<<pid>>]: Accepted publickey for <<user>> from <<lan>> port <<port>> <<sig>><<md5>>",<<+sshd>>,"data":{"srcip":"<<lan>>","srcport":"<<port>>","dstuser":"<<user>>"},"location":"journald""#,
    ),
    other(
        3,
        r#""level":10,"description":"sshd: many wrong passwords from one address","id":"5763",<<+brute>>,"frequency":8,<<+fired>>,"groups":["syslog","sshd","authentication_failures"],<<+badlogin>>"#,
        r#""previous_output":"<<syslog>> <<host>> sshd[<<pid>>]: Failed password for <<user>> from <<ip>> port <<port>> ssh2\n<<syslog>> <<host>> sshd[<<pid2>>]: Failed password for <<user>> from <<ip>> port <<port2>> ssh2\n<<syslog>> <<host>> sshd[<<pid3>>]: Failed password for root from <<ip>> port <<port3>> ssh2\n<<syslog>> <<host>> sshd[<<pid4>>]: Failed password for root from <<ip>> port <<port4>> ssh2\n<<syslog>> <<host>> sshd[<<pid5>>]: Failed password for <<stranger>> from <<ip>> port <<port5>> ssh2\n<<syslog>> <<host>> sshd[<<pid6>>]: Failed password for <<stranger>> from <<ip>> port <<port6>> ssh2","full_log":"<<syslog>> <<host>> sshd[<<pid7>>]: Failed password for <<stranger>> from <<ip>> port <<port7>> ssh2",<<+sshd>>,"data":{"srcip":"<<ip>>","srcport":"<<port7>>","dstuser":"<<stranger>>"},"location":"journald""#,
    ),
    other(
        8,
        r#""level":3,"description":"PAM: session opened","id":"5501",<<+valid>>,<<+fired>>,"groups":["pam","syslog","authentication_success"],<<+login>>"#,
        r#""full_log":"<<syslog>> <<host>> sshd[<<pid>>]: pam_unix(sshd:session): session opened for user <<user>>(uid=<<count>>) by <<user>>(uid=0)",<<+pam>>,"data":{"dstuser":"<<user>>","uid":"0"},"location":"journald""#,
    ),
    other(
        7,
        r#""level":3,"description":"PAM: session closed","id":"5502",<<+fired>>,"groups":["pam","syslog"],<<+login>>"#,
        r#""full_log":"<<syslog>> <<host>> sshd[<<pid>>]: pam_unix(sshd:session): session closed for user <<user>>",<<+pam>>,"data":{"dstuser":"<<user>>"},"location":"journald""#,
    ),
    other(
        8,
        r#""level":5,"description":"PAM: login failed","id":"5503",<<+brute>>,<<+fired>>,"groups":["pam","syslog","authentication_failed"],<<+badlogin>>"#,
        r#""full_log":"<<syslog>> <<host>> sshd[<<pid>>]: pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=<<ip>>",<<+pam>>,"data":{"srcip":"<<ip>>","uid":"0","euid":"0","tty":"ssh"},"location":"journald""#,
    ),
    other(
        4,
        r#""level":3,"description":"sudo: a command was run as root","id":"5402","mitre":{"id":["T1548.003"],"tactic":["Privilege Escalation","Defense Evasion"],"technique":["Sudo and Sudo Caching"]},<<+fired>>,"groups":["syslog","sudo"],<<+login>>"#,
        r#""full_log":"<<syslog>> <<host>> sudo[<<pid>>]:    <<user>> : TTY=pts/0 ; PWD=/home/<<user>> ; USER=root ; COMMAND=<<sudo>>","predecoder":{"program_name":"sudo","timestamp":"<<syslog>>","hostname":"<<host>>"},"decoder":{"parent":"sudo","name":"sudo","ftscomment":"sudo used for the first time"},"data":{"srcuser":"<<user>>","dstuser":"root","tty":"pts/0","pwd":"/home/<<user>>","command":"<<sudo>>"},"location":"journald""#,
    ),
    // Packages, mail, web, virus database.
    other(
        22,
        r#""level":7,"description":"dpkg: package half configured","id":"2904",<<+fired>>,"groups":["syslog","dpkg","config_changed"],<<+change>>"#,
        r#""full_log":"<<plain>> status half-configured <<pkg>>:<<arch>> <<version>>","decoder":{"name":"dpkg-decoder"},"data":{"dpkg_status":"status half-configured","package":"<<pkg>>","arch":"<<arch>>","version":"<<version>>"},"location":"/var/log/dpkg.log""#,
    ),
    other(
        14,
        r#""level":7,"description":"dpkg: package installed","id":"2902",<<+fired>>,"groups":["syslog","dpkg","config_changed"],<<+change>>"#,
        r#""full_log":"<<plain>> status installed <<pkg>>:<<arch>> <<version>>","decoder":{"name":"dpkg-decoder"},"data":{"dpkg_status":"status installed","package":"<<pkg>>","arch":"<<arch>>","version":"<<version>>"},"location":"/var/log/dpkg.log""#,
    ),
    other(
        8,
        r#""level":5,"description":"dovecot: login failed","id":"9705",<<+fired>>,"groups":["dovecot","invalid_login","authentication_failed"],<<+badlogin>>"#,
        r#""full_log":"<<syslog>> <<host>> dovecot: imap-login: Disconnected (auth failed, <<count>> attempts): user=(<<mailuser>>@example.org), method=PLAIN, rip=<<ip>>, lip=<<lan>>, TLS, session=<<hex>>","predecoder":{"program_name":"dovecot","timestamp":"<<syslog>>","hostname":"<<host>>"},"decoder":{"parent":"dovecot","name":"dovecot"},"data":{"srcip":"<<ip>>","srcuser":"<<mailuser>>@example.org","dstip":"<<lan>>"},"location":"/var/log/mail.log""#,
    ),
    other(
        3,
        r#""level":3,"description":"ClamAV: database updated","id":"52507",<<+fired>>,"groups":["clamd","freshclam","virus"],"pci_dss":["5.2"],"gpg13":["4.4"],"gdpr":["IV_35.7.d"],"nist_800_53":["SI.3"],"tsc":["A1.2"]"#,
        r#""full_log":"<<syslog>> <<host>> freshclam[<<pid>>]: daily.cld database is up to date (sigs: <<record>>)","predecoder":{"program_name":"freshclam","timestamp":"<<syslog>>","hostname":"<<host>>"},"decoder":{"name":"freshclam"},"location":"journald""#,
    ),
    other(
        22,
        r#""level":5,"description":"web server answered with an error","id":"31101",<<+fired>>,"groups":["web","accesslog","attack"],"pci_dss":["6.5","11.4"],"gdpr":["IV_35.7.d"],"nist_800_53":["SA.11","SI.4"],"tsc":["CC6.6","CC7.1","CC8.1","CC6.1","CC6.8","CC7.2","CC7.3"]"#,
        r#""full_log":"<<ip>> - - [<<web>>] \"<<method>> <<url>> HTTP/1.1\" <<webstatus>> <<size>> \"-\" \"<<ua>>\"","decoder":{"name":"web-accesslog"},"data":{"protocol":"<<method>>","srcip":"<<ip>>","id":"<<webstatus>>","url":"<<url>>"},"location":"/var/log/nginx/access.log""#,
    ),
    other(
        6,
        r#""level":3,"description":"Suricata: <<ids>>","id":"86601",<<+fired>>,"groups":["ids","suricata"]"#,
        r#""full_log":"{\"timestamp\":\"<<ts>>\",\"flow_id\":<<big>>,\"in_iface\":\"eth0\",\"event_type\":\"alert\",\"src_ip\":\"<<ip>>\",\"src_port\":<<port>>,\"dest_ip\":\"<<lan>>\",\"dest_port\":443,\"proto\":\"<<proto>>\",\"alert\":{\"action\":\"allowed\",\"gid\":1,\"signature_id\":<<record>>,\"rev\":1,\"signature\":\"<<ids>>\",\"category\":\"local\",\"severity\":3},\"http\":{\"hostname\":\"portal.example.org\",\"url\":\"<<url>>\",\"http_user_agent\":\"<<ua>>\",\"http_method\":\"<<method>>\",\"status\":<<webstatus>>,\"length\":<<size>>}}","decoder":{"name":"json"},"data":{"timestamp":"<<ts>>","flow_id":"<<big>>.000000","in_iface":"eth0","event_type":"alert","src_ip":"<<ip>>","src_port":"<<port>>","dest_ip":"<<lan>>","dest_port":"443","proto":"<<proto>>","alert":{"action":"allowed","gid":"1","signature_id":"<<record>>","rev":"1","signature":"<<ids>>","category":"local","severity":"3"},"http":{"hostname":"portal.example.org","url":"<<url>>","http_user_agent":"<<ua>>","http_method":"<<method>>","status":"<<webstatus>>","length":"<<size>>"}},"location":"/var/log/suricata/eve.json""#,
    ),
    other(
        6,
        r#""level":3,"description":"Docker: container <<container>>: <<action>>","id":"87903",<<+fired>>,"groups":["docker"]"#,
        r#""decoder":{"name":"json"},"data":{"integration":"docker","docker":{"status":"<<action>>","id":"<<sha256>>","from":"<<image>>","Type":"container","Action":"<<action>>","Actor":{"ID":"<<sha256>>","Attributes":{"com":{"docker":{"compose":{"config-hash":"<<sha2561>>","container-number":"1","oneoff":"False","project":"portal","service":"web","version":"2.39.1"}}},"image":"<<image>>","name":"<<container>>"}},"scope":"local","time":"<<epoch>>","timeNano":"<<epoch>>000000000.000000"}},"location":"Wazuh-Docker""#,
    ),
    // The manager's own.
    other(
        2,
        r#""level":3,"description":"Agent disconnected","id":"504",<<+fired>>,"groups":["ossec"],"pci_dss":["10.6.1","10.2.6"],"gpg13":["10.1"],"gdpr":["IV_35.7.d"]"#,
        r#""full_log":"ossec: Agent disconnected: '<<host>>-any'.","decoder":{"name":"ossec"},"location":"wazuh-monitord""#,
    ),
    other(
        1,
        r#""level":7,"description":"Listening ports changed","id":"533",<<+fired>>,"groups":["ossec"],"pci_dss":["10.2.7","10.6.1"],"gpg13":["10.1"],"gdpr":["IV_35.7.d"]"#,
        r#""full_log":"ossec: output: 'netstat listening ports':\ntcp 0.0.0.0:22 0.0.0.0:* <<pid>>/sshd\ntcp 0.0.0.0:443 0.0.0.0:* <<pid2>>/nginx\ntcp 0.0.0.0:<<port>> 0.0.0.0:* <<pid3>>/<<service>>\nudp 0.0.0.0:68 0.0.0.0:* <<pid4>>/dhclient","decoder":{"name":"ossec"},"previous_log":"ossec: output: 'netstat listening ports':\ntcp 0.0.0.0:22 0.0.0.0:* <<pid>>/sshd\ntcp 0.0.0.0:443 0.0.0.0:* <<pid2>>/nginx\nudp 0.0.0.0:68 0.0.0.0:* <<pid4>>/dhclient","location":"netstat listening ports""#,
    ),
    other(
        3,
        r#""level":7,"description":"Host-based anomaly detection event (rootcheck).","id":"510",<<+fired>>,"groups":["ossec","rootcheck"],"pci_dss":["10.6.1"],"gdpr":["IV_35.7.d"]"#,
        r#""full_log":"Trojaned version of file '<<trojan>>' detected. Signature used: 'bash|/dev/[a-z]+|file\\.h' (Generic).","decoder":{"name":"rootcheck"},"data":{"title":"Trojaned version of file detected.","file":"<<trojan>>"},"location":"rootcheck""#,
    ),
    // Long ones: vulnerability, SCA, diffs.
    other(
        20,
        r#""level":10,"description":"CVE-<<year>>-<<cve>> affects <<pkg>>","id":"23505",<<+fired>>,<<+vulnerable>>"#,
        r#""decoder":{"name":"json"},"data":{"vulnerability":{"assigner":"mitre",<<+cvedata>>,"rationale":"<<prose>>.","reference":"https://cve.example/CVE-<<year>>-<<cve>>, https://advisories.example/<<hex>>","severity":"<<severity>>","status":"Active","title":"CVE-<<year>>-<<cve>> affects <<pkg>>","type":"Packages","updated":"<<year>>-11-<<two>>T09:05:23Z"}},"location":"vulnerability-detector""#,
    ),
    other(
        6,
        r#""level":13,"description":"CVE-<<year>>-<<cve>> affects <<pkg>>","id":"23506",<<+fired>>,<<+vulnerable>>"#,
        r#""decoder":{"name":"json"},"data":{"vulnerability":{"assigner":"mitre",<<+cvedata>>,"rationale":"<<essay>>.","reference":"https://cve.example/CVE-<<year>>-<<cve>>, https://advisories.example/<<hex>>, https://advisories.example/<<hex2>>, https://lists.example/announce/<<big>>","severity":"Critical","status":"Active","title":"CVE-<<year>>-<<cve>> affects <<pkg>>","type":"Packages","updated":"<<year>>-11-<<two>>T09:05:23Z"}},"location":"vulnerability-detector""#,
    ),
    other(
        5,
        r#""level":7,"description":"SCA: <<check>>: <<result>>","id":"19007",<<+fired>>,"groups":["sca"],"gdpr":["IV_35.7.d"],"pci_dss":["2.2"],"nist_800_53":["CM.1"],"tsc":["CC7.1","CC7.2"],"cis":["5.2.<<two>>"],"cis_csc_v8":["4.1"],"soc_2":["CC6.1"]"#,
        r#""decoder":{"name":"sca"},"data":{"sca":{"type":"check","scan_id":"<<big>>","policy":"House baseline for Linux servers, 2026","check":{"id":"<<pid>>","title":"<<check>>","description":"<<prose>>.","rationale":"<<prose2>>.","remediation":"<<prose3>>.","compliance":{"cis":"5.2.<<two>>","cis_csc_v8":"4.1","soc_2":"CC6.1"},"file":["/etc/ssh/sshd_config"],"command":["sshd -T"],"result":"<<result>>"}}},"location":"sca""#,
    ),
    other(
        1,
        r#""level":5,"description":"SCA summary: House baseline for Linux servers, 2026: score <<score>>","id":"19005",<<+fired>>,"groups":["sca"],"gdpr":["IV_35.7.d"],"pci_dss":["2.2"],"nist_800_53":["CM.1"],"tsc":["CC7.1","CC7.2"]"#,
        r#""decoder":{"name":"sca"},"data":{"sca":{"type":"summary","scan_id":"<<big>>","policy":"House baseline for Linux servers, 2026","description":"<<prose>>.","policy_id":"house_linux_2026","passed":"<<count>>","failed":"<<count2>>","invalid":"0","total_checks":"190","score":"<<score>>","file":"house_linux_2026.yml"}},"location":"sca""#,
    ),
    other(
        8,
        r#""level":7,"description":"Integrity checksum changed.","id":"550","mitre":{"id":["T1565.001"],"tactic":["Impact"],"technique":["Stored Data Manipulation"]},<<+fired>>,"groups":["ossec","syscheck","syscheck_entry_modified","syscheck_file"],<<+integrity>>"#,
        r#""full_log":"File '<<file>>' modified\nMode: realtime\nChanged attributes: size,mtime,md5,sha1,sha256\n<<+sumlog>>","syscheck":{"path":"<<file>>","mode":"realtime","size_before":"<<size2>>","size_after":"<<size>>","perm_after":"<<perm>>","uid_after":"0","gid_after":"0",<<+sums>>,"uname_after":"root","gname_after":"root","mtime_before":"<<year>>-05-<<two>>T10:11:12","mtime_after":"<<bare>>","inode_after":<<inode>>,"changed_attributes":["size","mtime","md5","sha1","sha256"],"event":"modified"},"decoder":{"name":"syscheck_integrity_changed"},"location":"syscheck""#,
    ),
    other(
        10,
        r#""level":7,"description":"Integrity checksum changed.","id":"550","mitre":{"id":["T1565.001"],"tactic":["Impact"],"technique":["Stored Data Manipulation"]},<<+fired>>,"groups":["ossec","syscheck","syscheck_entry_modified","syscheck_file"],<<+integrity>>"#,
        r#""full_log":"File '<<file>>' modified\nMode: whodata\nChanged attributes: size,mtime,md5,sha1,sha256\n<<+sumlog>>What changed:\n<<diff>>\n","syscheck":{"path":"<<file>>","mode":"whodata","size_before":"<<size2>>","size_after":"<<size>>","perm_after":"<<perm>>","uid_after":"0","gid_after":"0",<<+sums>>,"uname_after":"root","gname_after":"root","mtime_before":"<<year>>-05-<<two>>T10:11:12","mtime_after":"<<bare>>","inode_after":<<inode>>,"diff":"<<diff>>\n","changed_attributes":["size","mtime","md5","sha1","sha256"],"event":"modified","audit":{"user":{"id":"0","name":"root"},"process":{"id":"<<pid>>","name":"/usr/bin/vim.basic","cwd":"/root","parent_name":"/usr/bin/bash","parent_cwd":"/root","ppid":"<<pid2>>"},"group":{"id":"0","name":"root"},"login_user":{"id":"1000","name":"<<user>>"},"effective_user":{"id":"0","name":"root"}}},"decoder":{"name":"syscheck_integrity_changed"},"location":"syscheck""#,
    ),
    other(
        3,
        r#""level":5,"description":"File added to the system.","id":"554",<<+fired>>,"groups":["ossec","syscheck","syscheck_entry_added","syscheck_file"],<<+integrity>>"#,
        r#""full_log":"File '<<file>>.<<hex>>' added\nMode: realtime\n","syscheck":{"path":"<<file>>.<<hex>>","mode":"realtime","size_after":"<<size>>","perm_after":"<<perm>>","uid_after":"0","gid_after":"0","md5_after":"<<md5>>","sha1_after":"<<sha1>>","sha256_after":"<<sha256>>","uname_after":"root","gname_after":"root","mtime_after":"<<bare>>","inode_after":<<inode>>,"event":"added"},"decoder":{"name":"syscheck_new_entry"},"location":"syscheck""#,
    ),
    other(
        2,
        r#""level":7,"description":"File deleted.","id":"553",<<+fired>>,"groups":["ossec","syscheck","syscheck_entry_deleted","syscheck_file"],<<+integrity>>"#,
        r#""full_log":"File '<<file>>.<<hex>>' deleted\nMode: realtime\n","syscheck":{"path":"<<file>>.<<hex>>","mode":"realtime","size_after":"<<size>>","perm_after":"<<perm>>","uid_after":"0","gid_after":"0","md5_after":"<<md5>>","sha1_after":"<<sha1>>","sha256_after":"<<sha256>>","uname_after":"root","gname_after":"root","mtime_after":"<<bare>>","inode_after":<<inode>>,"event":"deleted"},"decoder":{"name":"syscheck_deleted"},"location":"syscheck""#,
    ),
];

/// Integrity of Windows registries: by far the most on the sites that were counted.
const REGISTRY: &[Row] = &[
    other(
        100,
        r#""level":5,"description":"Registry Value Integrity Checksum Changed","id":"750",<<+stored>>,<<+fired>>,"groups":["ossec","syscheck","syscheck_entry_modified","syscheck_registry"],<<+integrity>>"#,
        r#""full_log":"Registry Value '[x64] <<key>>\\<<valuename>>' modified\nMode: scheduled\nChanged attributes: md5,sha1,sha256\n<<+sumlog>>","syscheck":{"path":"<<key>>","mode":"scheduled","arch":"[x64]","value_name":"<<valuename>>","value_type":"<<valuetype>>","size_after":"<<size>>",<<+sums>>,"changed_attributes":["md5","sha1","sha256"],"event":"modified"},"decoder":{"name":"syscheck_registry_value_modified"},"location":"syscheck""#,
    ),
    other(
        92,
        r#""level":5,"description":"Registry Value Entry Added to the System","id":"752",<<+modreg>>,<<+fired>>,"groups":["ossec","syscheck","syscheck_entry_added","syscheck_registry"],<<+integrity>>"#,
        r#""full_log":"Registry Value '[x64] <<key>>\\<<valuename>>' added\nMode: scheduled\n","syscheck":{"path":"<<key>>","mode":"scheduled","arch":"[x64]","value_name":"<<valuename>>","value_type":"<<valuetype>>","size_after":"<<size>>","md5_after":"<<md5>>","sha1_after":"<<sha1>>","sha256_after":"<<sha256>>","event":"added"},"decoder":{"name":"syscheck_registry_value_added"},"location":"syscheck""#,
    ),
    other(
        68,
        r#""level":5,"description":"Registry Value Entry Deleted.","id":"751",<<+modreg>>,<<+fired>>,"groups":["ossec","syscheck","syscheck_entry_deleted","syscheck_registry"],<<+integrity>>"#,
        r#""full_log":"Registry Value '[x64] <<key>>\\<<valuename>>' deleted\nMode: scheduled\n","syscheck":{"path":"<<key>>","mode":"scheduled","arch":"[x64]","value_name":"<<valuename>>","value_type":"<<valuetype>>","size_after":"<<size>>","md5_after":"<<md5>>","sha1_after":"<<sha1>>","sha256_after":"<<sha256>>","event":"deleted"},"decoder":{"name":"syscheck_registry_value_deleted"},"location":"syscheck""#,
    ),
    other(
        48,
        r#""level":5,"description":"Registry Key Integrity Checksum Changed","id":"594",<<+stored>>,<<+fired>>,"groups":["ossec","syscheck","syscheck_entry_modified","syscheck_registry"],<<+integrity>>"#,
        r#""full_log":"Registry Key '[x64] <<key>>' modified\nMode: scheduled\nChanged attributes: mtime\nOld modification time was: '<<big>>', now it is '<<epoch>>'\n","syscheck":{"path":"<<key>>","mode":"scheduled","arch":"[x64]",<<+winperm>>,<<+system>>,"mtime_before":"<<year>>-05-<<two>>T10:11:12","mtime_after":"<<bare>>","changed_attributes":["mtime"],"event":"modified"},"decoder":{"name":"syscheck_registry_key_modified"},"location":"syscheck""#,
    ),
    other(
        20,
        r#""level":5,"description":"Registry Key Entry Added to the System","id":"598",<<+modreg>>,<<+fired>>,"groups":["ossec","syscheck","syscheck_entry_added","syscheck_registry"],<<+integrity>>"#,
        r#""full_log":"Registry Key '[x64] <<key>>' added\nMode: scheduled\n","syscheck":{"path":"<<key>>","mode":"scheduled","arch":"[x64]",<<+winperm>>,<<+system>>,"mtime_after":"<<bare>>","event":"added"},"decoder":{"name":"syscheck_registry_key_added"},"location":"syscheck""#,
    ),
    other(
        22,
        r#""level":5,"description":"Registry Key Entry Deleted.","id":"597",<<+modreg>>,<<+fired>>,"groups":["ossec","syscheck","syscheck_entry_deleted","syscheck_registry"],<<+integrity>>"#,
        r#""full_log":"Registry Key '[x64] <<key>>' deleted\nMode: scheduled\n","syscheck":{"path":"<<key>>","mode":"scheduled","arch":"[x64]",<<+winperm>>,<<+system>>,"mtime_after":"<<bare>>","event":"deleted"},"decoder":{"name":"syscheck_registry_key_deleted"},"location":"syscheck""#,
    ),
];
