//! Module patterns in `adapter_config.json`, which are Python regular expressions.
//!
//! Patterns of a file may be hostile, so the number of patterns, their compiled size and the steps of
//! matching are bounded.

use fancy_regex::{Regex, RegexBuilder};

/// Patterns of a setting. One per module is usual for ranks by module.
const MAX_PATTERNS: usize = 1 << 12;
/// Backtracking steps of one match.
const MAX_STEPS: usize = 100_000;
/// Bytes of one compiled pattern.
const MAX_REGEX_BYTES: usize = 1 << 20;
/// Steps of all matches of a setting.
const MAX_TOTAL_STEPS: usize = 100_000_000;
/// Bytes of module names in all matches of a setting.
const MAX_TOTAL_BYTES: usize = 1 << 27;

/// Budget of all matches of some patterns with some modules.
#[derive(Debug, Clone, Copy)]
pub(super) struct MatchBudget {
    /// Steps of each match. All get the same, since the steps that a pattern needs are unknown.
    steps: usize,
}

impl MatchBudget {
    /// # Errors
    /// The reason, for too many matches.
    pub fn new(patterns: usize, modules: &[&str]) -> Result<Self, String> {
        let total_bytes = modules.iter().map(|module| module.len() + 1).sum::<usize>();
        if patterns.saturating_mul(total_bytes) > MAX_TOTAL_BYTES {
            let modules = modules.len();
            return Err(format!(
                "{patterns} patterns and {modules} modules are too many to compare"
            ));
        }
        let matches = (patterns * modules.len()).max(1);
        Ok(Self { steps: (MAX_TOTAL_STEPS / matches).min(MAX_STEPS) })
    }
}

/// A pattern that must match the full module name, as with `re.fullmatch`.
#[derive(Debug, Clone)]
pub(super) struct FullMatch(Regex);

impl FullMatch {
    /// # Errors
    /// The reason, for an invalid pattern.
    pub fn new(pattern: &str) -> Result<Self, String> {
        compile(&format!(r"\A(?:{pattern})\z"), MAX_STEPS).map(Self)
    }

    /// The same pattern with a budget's steps.
    ///
    /// # Errors
    /// None, since the pattern was compiled before.
    pub fn with_budget(&self, budget: MatchBudget) -> Result<Self, String> {
        compile(self.0.as_str(), budget.steps).map(Self)
    }

    /// # Errors
    /// The reason, if the match takes too many steps.
    pub fn matches(&self, module: &str) -> Result<bool, String> {
        self.0.is_match(module).map_err(|error| match_error(&self.0, &error))
    }
}

/// A pattern that finds the layer index in a module name.
#[derive(Debug, Clone)]
pub(super) struct LayerIndexPattern(Regex);

impl LayerIndexPattern {
    /// `list` is a pattern of the layer list's name; empty for any name.
    ///
    /// # Errors
    /// The reason, for an invalid pattern.
    pub fn new(list: &str) -> Result<Self, String> {
        // PEFT's pattern: the first index after a list of that name.
        let list = if list.is_empty() { r".*?\.[^.]*" } else { &format!(r"(?:^|.*?\.){list}") };
        compile(&format!(r"\A{list}\.(?P<layer>\d+)\."), MAX_STEPS).map(Self)
    }

    /// The same pattern with a budget's steps.
    ///
    /// # Errors
    /// None, since the pattern was compiled before.
    pub fn with_budget(&self, budget: MatchBudget) -> Result<Self, String> {
        compile(self.0.as_str(), budget.steps).map(Self)
    }

    /// # Errors
    /// The reason, if the match takes too many steps.
    pub fn find(&self, module: &str) -> Result<Option<i64>, String> {
        let found = self.0.captures(module).map_err(|error| match_error(&self.0, &error))?;
        let number = found.as_ref().and_then(|found| found.name("layer"));
        Ok(number.and_then(|number| number.as_str().parse().ok()))
    }
}

/// Values by module pattern. The first matching pattern wins.
///
/// Source: PEFT, `peft/utils/other.py`, `get_pattern_key`.
#[derive(Debug, Clone, Default)]
pub(super) struct PatternMap<T>(Vec<(String, T)>);

impl<T: Copy> PatternMap<T> {
    /// # Errors
    /// The reason, for too many patterns.
    pub fn new(pairs: Vec<(String, T)>) -> Result<Self, String> {
        if pairs.len() > MAX_PATTERNS {
            return Err(format!("{} patterns, expected at most {MAX_PATTERNS}", pairs.len()));
        }
        Ok(Self(pairs))
    }

    /// The value of each module, if a pattern matches it.
    ///
    /// # Errors
    /// The reason, for an invalid pattern, or too many matches.
    pub fn lookup<'a>(
        &self,
        modules: impl Iterator<Item = &'a str>,
    ) -> Result<Vec<Option<T>>, String> {
        let modules = modules.collect::<Vec<_>>();
        let MatchBudget { steps } = MatchBudget::new(self.0.len(), &modules)?;
        let mut values = vec![None; modules.len()];
        for (pattern, value) in &self.0 {
            // One at a time: thousands of compiled patterns would take much memory.
            let regex = compile(&format!(r"\A(.*\.)?({pattern})\z"), steps)?;
            for (found, module) in values.iter_mut().zip(&modules) {
                if found.is_none() && regex.is_match(module).map_err(|e| match_error(&regex, &e))? {
                    *found = Some(*value);
                }
            }
        }
        Ok(values)
    }
}

fn compile(pattern: &str, steps: usize) -> Result<Regex, String> {
    RegexBuilder::new(pattern)
        .backtrack_limit(steps)
        .delegate_size_limit(MAX_REGEX_BYTES)
        .delegate_dfa_size_limit(MAX_REGEX_BYTES)
        .build()
        .map_err(|error| format!("`{}` is not a valid pattern: {error}", pattern.escape_debug()))
}

fn match_error(regex: &Regex, error: &fancy_regex::Error) -> String {
    format!("`{}` cannot be matched: {error}", regex.as_str().escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: &str = "model.layers.11.self_attn.q_proj";

    #[test]
    fn pattern_matches_the_full_module_name() {
        let matches = |pattern: &str| FullMatch::new(pattern).unwrap().matches(QUERY).unwrap();
        assert!(matches(r".*\.(q|v)_proj"));
        assert!(matches(
            r"(?:.*?(?:language|text).*?q_proj.*?)|(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|mlp)\.(?:(?:q_proj|k_proj)))"
        ));
        assert!(!matches("q_proj"));
        assert!(!matches(r"(?!.*\.1\d\.).*q_proj"));
        assert!(FullMatch::new("(").is_err());
    }

    #[test]
    fn first_matching_pattern_wins() {
        let map = |pairs: &[(&str, i32)]| {
            let pairs = pairs.iter().map(|(pattern, value)| ((*pattern).to_owned(), *value));
            PatternMap::new(pairs.collect()).unwrap().lookup([QUERY].into_iter()).unwrap()[0]
        };
        assert_eq!(map(&[("k_proj", 1), ("q_proj", 2), (".*", 3)]), Some(2));
        assert_eq!(map(&[("model.layers.1.self_attn.q_proj", 1)]), None);
        assert_eq!(map(&[("^model.layers.11.self_attn.q_proj", 1)]), Some(1));
        assert_eq!(map(&[("attn.q_proj", 1)]), None);
    }

    #[test]
    fn layer_index_follows_the_layer_list_name() {
        let found =
            |list: &str, module: &str| LayerIndexPattern::new(list).unwrap().find(module).unwrap();
        assert_eq!(found("", QUERY), Some(11));
        assert_eq!(found("layers", QUERY), Some(11));
        assert_eq!(found("h", QUERY), None);
        assert_eq!(found("", "lm_head"), None);
    }

    #[test]
    fn step_budget_is_shared_and_bounded() {
        assert_eq!(MatchBudget::new(1, &[QUERY]).unwrap().steps, MAX_STEPS);
        assert_eq!(MatchBudget::new(0, &[]).unwrap().steps, MAX_STEPS);
        assert_eq!(MatchBudget::new(4000, &[QUERY; 500]).unwrap().steps, 50);
        assert!(MatchBudget::new(4000, &vec![QUERY; 5000]).is_err());
        // Literal patterns, of which a config may have thousands, need no backtracking.
        let pairs = (0..400).map(|layer| (format!("layers.{layer}.self_attn.q_proj"), layer));
        let map = PatternMap::new(pairs.collect()).unwrap();
        assert_eq!(map.lookup([QUERY; 500].into_iter()).unwrap(), [Some(11); 500]);
    }

    #[test]
    fn catastrophic_backtracking_is_an_error() {
        let hostile = FullMatch::new(r"((a*)*\1?)*b").unwrap();
        assert!(hostile.matches(&"a".repeat(60)).is_err());
        assert!(FullMatch::new(&"(".repeat(100_000)).is_err());
        assert!(FullMatch::new(r"(?:a{1000}){1000}").is_err());
    }
}
