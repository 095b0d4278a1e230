//! Events of users: logins, privileges, accounts, passwords, groups.

use super::{
    draws::Draws,
    endpoint::FAILURES,
    event::Event,
    site::{Host, Site, System, User, private},
};

pub(super) const KINDS: [fn(&Site, &mut Draws) -> Event; 5] = [login, privilege_change, account_change, password_change, group_membership];

/// An event of a user on a host.
fn on(kind: &'static str, user: &User, host: &Host) -> Event {
    Event::of_user(kind, user).text("host", &host.name).text("host_name", &host.name).text("user_name", &user.name)
}

/// Who changed it, and whether that is somebody who should.
fn actor(site: &Site, user: &User, draws: &mut Draws) -> (String, bool) {
    match draws.below(10) {
        0 => (user.name.to_string(), user.is_privileged),
        1 => {
            let other = site.user(draws);
            (other.name.to_string(), other.is_privileged)
        }
        _ => ((*draws.one(&["Administrator", "System", "Domain Admin"])).to_owned(), true),
    }
}

/// Who and by which program.
fn by(event: Event, actor: &str, host: &Host, draws: &mut Draws) -> Event {
    let programs: &[&str] = match host.system {
        System::Windows => &["services.exe", "lsass.exe", "net.exe", "powershell.exe"],
        _ => &["usermod", "passwd", "su", "sudo"],
    };
    event.text("actor", actor).text("process_name", draws.one(programs)).bare("process_id", draws.from(1000, 65_535))
}

/// One of five fails.
fn login(site: &Site, draws: &mut Draws) -> Event {
    let (host, user) = (site.host(draws), site.user(draws));
    let fails = draws.percent(20);
    let event = on("login", user, host)
        .text("login_type", draws.one(&["Interactive", "Remote Interactive", "Network", "Batch", "Service"]))
        .text("login_status", if fails { "failure" } else { "success" })
        .text("source_ip", private(draws));
    if !fails {
        return event.usual(draws);
    }
    let (why, techniques) = *draws.one(&FAILURES);
    event.text("failure_reason", why).suspicious(draws, &format!("a login failed: {why}"), techniques)
}

fn privilege_change(site: &Site, draws: &mut Draws) -> Event {
    let (host, user) = (site.host(draws), site.user(draws));
    let (privilege, is_strong) = *draws.one(&[
        ("SeDebugPrivilege", true),
        ("SeTcbPrivilege", true),
        ("SeLoadDriverPrivilege", true),
        ("SeRestorePrivilege", false),
        ("SeSystemtimePrivilege", false),
        ("SeShutdownPrivilege", false),
    ]);
    let action = *draws.one(&["granted", "removed"]);
    let (actor, is_entitled) = actor(site, user, draws);
    let event = on("privilege_change", user, host).text("privilege", privilege).text("action", action);
    let suspicion: Option<(&str, &[&str])> = match (is_strong && action == "granted" && !user.is_privileged, is_entitled) {
        (true, _) => Some(("a user was given a strong privilege", &["T1078"])),
        (_, false) => Some(("a privilege was changed by who may not", &["T1098"])),
        _ => None,
    };
    by(event, &actor, host, draws).judged(draws, suspicion)
}

fn account_change(site: &Site, draws: &mut Draws) -> Event {
    let (host, user) = (site.host(draws), site.user(draws));
    let change =
        *draws.one(&["account_created", "account_deleted", "account_enabled", "account_disabled", "account_expired", "account_renamed"]);
    let (actor, is_entitled) = actor(site, user, draws);
    let mut event = by(on("account_change", user, host).text("change_type", change), &actor, host, draws);
    if change == "account_renamed" {
        event = event.text("old_name", &user.name).text("new_name", format!("{}_new", user.name));
    }
    let suspicion: Option<(&str, &[&str])> = match (is_entitled, change) {
        (false, "account_created") => Some(("an account was made by who may not", &["T1136"])),
        (false, _) => Some(("an account was changed by who may not", &["T1098"])),
        _ => None,
    };
    event.judged(draws, suspicion)
}

fn password_change(site: &Site, draws: &mut Draws) -> Event {
    let (host, user) = (site.host(draws), site.user(draws));
    let change = *draws.one(&["password_change", "password_change", "password_reset", "password_expired", "password_policy_change"]);
    let (actor, is_entitled) = actor(site, user, draws);
    let mut event = by(on("password_change", user, host).text("change_type", change), &actor, host, draws);
    if change == "password_policy_change" {
        event = event.text("policy_changes", draws.one(&["minimum_length_decreased", "maximum_age_increased", "history_shortened"]));
    }
    let suspicion: Option<(&str, &[&str])> = match (change, is_entitled) {
        ("password_policy_change", _) => Some(("the rules for passwords became weaker", &["T1098"])),
        // Everybody may change their own.
        (_, false) if *actor != *user.name => Some(("a password was changed by who may not", &["T1098"])),
        _ => None,
    };
    event.judged(draws, suspicion)
}

fn group_membership(site: &Site, draws: &mut Draws) -> Event {
    let (host, user) = (site.host(draws), site.user(draws));
    let (group, is_strong) = *draws.one(&[
        ("Domain Admins", true),
        ("Enterprise Admins", true),
        ("Administrators", true),
        ("Remote Desktop Users", false),
        ("Power Users", false),
        ("Users", false),
    ]);
    let action = *draws.one(&["added", "removed"]);
    let (actor, is_entitled) = actor(site, user, draws);
    let event = on("group_membership", user, host).text("group_name", group).text("action", action);
    let suspicion: Option<(&str, &[&str])> = match (is_strong && action == "added" && !user.is_privileged, is_entitled) {
        (true, _) => Some(("a user was added to a strong group", &["T1078"])),
        (_, false) => Some(("a group was changed by who may not", &["T1098"])),
        _ => None,
    };
    by(event, &actor, host, draws).judged(draws, suspicion)
}
