//! Python's patterns in `adapter_config.json`: which modules of a model they mean.

use fancy_regex::{Regex, RegexBuilder};

/// More patterns than any config has: one for each module is usual where ranks were chosen by module.
const MOST: usize = 1 << 12;
/// Steps of one comparison, and bytes of one compiled pattern: a pattern in a file may be hostile.
const STEPS: usize = 100_000;
const BYTES: usize = 1 << 20;
/// Steps of all comparisons of a setting, and the letters that they look at: so may be their number.
const ALL_STEPS: usize = 100_000_000;
const ALL_LETTERS: usize = 1 << 27;

/// What all comparisons of some patterns with some modules may take together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MatchBudget {
    /// Steps that each may go back. What a pattern needs is not known before, so all get the same.
    steps: usize,
}

impl MatchBudget {
    /// # Errors
    /// The reason, for more comparisons than make sense.
    pub fn new(patterns: usize, modules: &[&str]) -> Result<Self, String> {
        let letters = modules.iter().map(|module| module.len() + 1).sum::<usize>();
        if patterns.saturating_mul(letters) > ALL_LETTERS {
            let modules = modules.len();
            return Err(format!(
                "{patterns} patterns and {modules} modules are too many to compare"
            ));
        }
        let comparisons = (patterns * modules.len()).max(1);
        Ok(Self { steps: (ALL_STEPS / comparisons).min(STEPS) })
    }
}

/// A pattern that means a module where all of the module's name matches, as `re.fullmatch` does.
#[derive(Debug, Clone)]
pub(crate) struct FullMatch(Regex);

impl FullMatch {
    /// # Errors
    /// The reason, for a pattern that is none.
    pub fn new(pattern: &str) -> Result<Self, String> {
        compile(&format!(r"\A(?:{pattern})\z"), STEPS).map(Self)
    }

    /// The same, with a budget's share of steps.
    ///
    /// # Errors
    /// None where the pattern was compiled before.
    pub fn with_budget(&self, budget: MatchBudget) -> Result<Self, String> {
        compile(self.0.as_str(), budget.steps).map(Self)
    }

    /// # Errors
    /// The reason, for a comparison without an end in sight.
    pub fn matches(&self, module: &str) -> Result<bool, String> {
        self.0.is_match(module).map_err(|error| match_error(&self.0, &error))
    }
}

/// A pattern that finds the number of a module's layer in its name.
#[derive(Debug, Clone)]
pub(crate) struct LayerIndexPattern(Regex);

impl LayerIndexPattern {
    /// Where the layers' list is called so; anything, if it is empty.
    ///
    /// # Errors
    /// The reason, for a pattern that is none.
    pub fn new(list: &str) -> Result<Self, String> {
        // As PEFT builds it: the first number behind a list of that name.
        let list = if list.is_empty() { r".*?\.[^.]*" } else { &format!(r"(?:^|.*?\.){list}") };
        compile(&format!(r"\A{list}\.(?P<layer>\d+)\."), STEPS).map(Self)
    }

    /// The same, with a budget's share of steps.
    ///
    /// # Errors
    /// None where the pattern was compiled before.
    pub fn within(&self, budget: MatchBudget) -> Result<Self, String> {
        compile(self.0.as_str(), budget.steps).map(Self)
    }

    /// # Errors
    /// The reason, for a comparison without an end in sight.
    pub fn find(&self, module: &str) -> Result<Option<i64>, String> {
        let found = self.0.captures(module).map_err(|error| match_error(&self.0, &error))?;
        let number = found.as_ref().and_then(|found| found.name("layer"));
        Ok(number.and_then(|number| number.as_str().parse().ok()))
    }
}

/// Values for the modules that a pattern means; the first pattern that means a module has it.
///
/// Source: PEFT, `peft/utils/other.py`, `get_pattern_key`.
#[derive(Debug, Clone, Default)]
pub(crate) struct PatternMap<T>(Vec<(String, T)>);

impl<T: Copy> PatternMap<T> {
    /// # Errors
    /// The reason, for more patterns than make sense.
    pub fn new(pairs: Vec<(String, T)>) -> Result<Self, String> {
        if pairs.len() > MOST {
            return Err(format!("{} patterns, expected at most {MOST}", pairs.len()));
        }
        Ok(Self(pairs))
    }

    /// The value of each module, where a pattern means it.
    ///
    /// # Errors
    /// The reason, for a pattern that is none, or for more than can be compared.
    pub fn lookup<'a>(
        &self,
        modules: impl Iterator<Item = &'a str>,
    ) -> Result<Vec<Option<T>>, String> {
        let modules = modules.collect::<Vec<_>>();
        let MatchBudget { steps } = MatchBudget::new(self.0.len(), &modules)?;
        let mut values = vec![None; modules.len()];
        for (pattern, value) in &self.0 {
            // One at a time: compiled, thousands of them would take memory.
            let regex = compile(&format!(r"\A(.*\.)?({pattern})\z"), steps)?;
            for (slot, module) in values.iter_mut().zip(&modules) {
                if slot.is_none() && regex.is_match(module).map_err(|e| match_error(&regex, &e))? {
                    *slot = Some(*value);
                }
            }
        }
        Ok(values)
    }
}

fn compile(pattern: &str, steps: usize) -> Result<Regex, String> {
    RegexBuilder::new(pattern)
        .backtrack_limit(steps)
        .delegate_size_limit(BYTES)
        .delegate_dfa_size_limit(BYTES)
        .build()
        .map_err(|error| format!("`{}` is no pattern: {error}", pattern.escape_debug()))
}

fn match_error(regex: &Regex, error: &fancy_regex::Error) -> String {
    format!("`{}` cannot be compared: {error}", regex.as_str().escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: &str = "model.layers.11.self_attn.q_proj";

    #[test]
    fn a_pattern_means_a_module_by_its_whole_name() {
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
    fn the_first_pattern_that_means_a_module_gives_its_value() {
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
    fn a_layers_number_stands_behind_the_list_of_layers() {
        let found =
            |list: &str, module: &str| LayerIndexPattern::new(list).unwrap().find(module).unwrap();
        assert_eq!(found("", QUERY), Some(11));
        assert_eq!(found("layers", QUERY), Some(11));
        assert_eq!(found("h", QUERY), None);
        assert_eq!(found("", "lm_head"), None);
    }

    #[test]
    fn more_comparisons_get_fewer_steps_each_and_too_many_none() {
        assert_eq!(MatchBudget::new(1, &[QUERY]).unwrap().steps, STEPS);
        assert_eq!(MatchBudget::new(0, &[]).unwrap().steps, STEPS);
        assert_eq!(MatchBudget::new(4000, &[QUERY; 500]).unwrap().steps, 50);
        assert!(MatchBudget::new(4000, &vec![QUERY; 5000]).is_err());
        // Plain patterns, of which a config may have thousands, need no steps.
        let pairs = (0..400).map(|layer| (format!("layers.{layer}.self_attn.q_proj"), layer));
        let map = PatternMap::new(pairs.collect()).unwrap();
        assert_eq!(map.lookup([QUERY; 500].into_iter()).unwrap(), [Some(11); 500]);
    }

    #[test]
    fn a_pattern_that_never_ends_is_an_error() {
        let hostile = FullMatch::new(r"((a*)*\1?)*b").unwrap();
        assert!(hostile.matches(&"a".repeat(60)).is_err());
        assert!(FullMatch::new(&"(".repeat(100_000)).is_err());
        assert!(FullMatch::new(r"(?:a{1000}){1000}").is_err());
    }
}
