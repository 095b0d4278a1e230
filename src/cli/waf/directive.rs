//! Directives that exclude a variable from a rule, ready to be pasted.
//!
//! Names and paths are the client's words. What a parser of directives could read as more than a name is
//! not written; the operator is told to do it by hand.

/// Excludes a rule's variable everywhere; `None` if it cannot be written safely.
pub(super) fn everywhere(rule: &str, variable: Option<&str>) -> Option<String> {
    Some(match target(variable)? {
        Some(variable) => format!("SecRuleUpdateTargetById {rule} \"!{variable}\""),
        None => format!("SecRuleRemoveById {rule}"),
    })
}

/// Excludes a rule's variable for one path; `None` if it cannot be written safely.
///
/// - `id`: of the new rule; must be a site's own, and used once.
pub(super) fn on_path(id: u32, rule: &str, variable: Option<&str>, path: &str) -> Option<String> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"/_.~+-".contains(&b);
    if !path.starts_with('/') || !path.bytes().all(is_plain) {
        return None;
    }
    let what = match target(variable)? {
        Some(variable) => format!("ruleRemoveTargetById={rule};{variable}"),
        None => format!("ruleRemoveById={rule}"),
    };
    Some(format!("SecRule REQUEST_FILENAME \"@streq {path}\" \"id:{id},phase:1,pass,nolog,ctl:{what}\""))
}

/// The variable as a target; `Some(None)` where only the whole rule can be excluded, `None` where its name cannot be
/// written.
#[allow(clippy::option_option, reason = "three answers: a target, no target, and no answer")]
fn target(variable: Option<&str>) -> Option<Option<&str>> {
    let Some(variable) = variable else { return Some(None) };
    let (collection, member) = variable.split_once(':').unwrap_or((variable, ""));
    // What the rules themselves have put there is not the client's.
    if matches!(collection, "TX" | "MATCHED_VAR" | "MATCHED_VARS" | "MATCHED_VARS_NAMES" | "MATCHED_VAR_NAME" | "IP" | "GLOBAL" | "SESSION")
    {
        return Some(None);
    }
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let is_member = member.bytes().all(is_plain) || (collection == "XML" && matches!(member, "/*" | "//@*"));
    is_member.then_some(Some(variable))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_pasted_is_written_and_nothing_else() {
        for (variable, path, here, all) in [
            (
                Some("ARGS:q"),
                "/search",
                Some(r#"SecRule REQUEST_FILENAME "@streq /search" "id:10001,phase:1,pass,nolog,ctl:ruleRemoveTargetById=942100;ARGS:q""#),
                Some(r#"SecRuleUpdateTargetById 942100 "!ARGS:q""#),
            ),
            (
                Some("TX:1"),
                "/a",
                Some(r#"SecRule REQUEST_FILENAME "@streq /a" "id:10001,phase:1,pass,nolog,ctl:ruleRemoveById=942100""#),
                Some("SecRuleRemoveById 942100"),
            ),
            (None, "/a b", None, Some("SecRuleRemoveById 942100")),
            (Some("REQUEST_BODY"), "/%{TX.1}", None, Some(r#"SecRuleUpdateTargetById 942100 "!REQUEST_BODY""#)),
            (Some("XML://@*"), "/a\"", None, Some(r#"SecRuleUpdateTargetById 942100 "!XML://@*""#)),
            (Some("ARGS_NAMES:x\" \"id:1,allow"), "/a", None, None),
            (Some("ARGS:a|TX"), "/a", None, None),
            (Some("ARGS:a,ctl"), "", None, None),
        ] {
            assert_eq!(on_path(10_001, "942100", variable, path).as_deref(), here, "{variable:?} {path}");
            assert_eq!(everywhere("942100", variable).as_deref(), all, "{variable:?}");
        }
    }
}
