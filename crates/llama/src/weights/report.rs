//! What does not fit between a model's config and its tensors, all of it at once.

use std::collections::BTreeMap;
use std::fmt;

use super::TensorSpec;

/// Everything wrong with a set of tensors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Asked for by the config, not in the files.
    pub missing: Vec<String>,
    /// In the files, not asked for.
    pub unexpected: Vec<String>,
    /// Name, shape wanted, shape found.
    pub wrong_shape: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// Tensors with infinite numbers or NaN in them.
    pub not_finite: Vec<String>,
}

impl LoadReport {
    /// Compares what is needed with what is there.
    pub fn compare(wanted: &[TensorSpec], found: &BTreeMap<String, Vec<usize>>) -> Self {
        let mut report = Self::default();
        for TensorSpec { name, shape } in wanted {
            match found.get(name) {
                None => report.missing.push(name.clone()),
                Some(other) if other != shape => {
                    report.wrong_shape.push((name.clone(), shape.clone(), other.clone()));
                }
                Some(_) => {}
            }
        }
        let wanted = wanted.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>();
        report.unexpected = found
            .keys()
            .filter(|name| !wanted.contains(&name.as_str()) && !is_harmless(name))
            .cloned()
            .collect();
        report
    }

    /// The same with other names. Tensors that share one name become one line.
    pub(super) fn named(self, name: impl Fn(&str) -> String) -> Self {
        let rename = |names: Vec<String>| {
            let mut names = names.iter().map(|old| name(old)).collect::<Vec<_>>();
            names.dedup();
            names
        };
        let shapes = self.wrong_shape.into_iter();
        Self {
            missing: rename(self.missing),
            unexpected: self.unexpected,
            wrong_shape: shapes.map(|(old, wanted, found)| (name(&old), wanted, found)).collect(),
            not_finite: rename(self.not_finite),
        }
    }

    /// Whether everything fits.
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

/// Tensors that some exporters write and no model needs: rotary tables, which are computed, and a
/// copy of a tied head, which was compared before.
fn is_harmless(name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq") || name == "lm_head.weight"
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Names shown before "and N more".
        const SHOWN: usize = 8;
        let mut lines = Vec::new();
        let mut list = |title: &str, items: Vec<String>| {
            if items.is_empty() {
                return;
            }
            lines.push(format!("  {title} ({}):", items.len()));
            lines.extend(items.iter().take(SHOWN).map(|item| format!("    {item}")));
            if items.len() > SHOWN {
                lines.push(format!("    and {} more", items.len() - SHOWN));
            }
        };
        list("missing", self.missing.clone());
        list("unexpected", self.unexpected.clone());
        let shapes = self
            .wrong_shape
            .iter()
            .map(|(name, wanted, found)| format!("{name}: expected {wanted:?}, found {found:?}"));
        list("wrong shape", shapes.collect());
        list("not finite (NaN or infinite numbers)", self.not_finite.clone());
        f.write_str(&lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_report_names_all_that_is_wrong() {
        let wanted = [("a", [2, 3]), ("b", [4, 4]), ("c", [1, 1])]
            .map(|(name, shape)| TensorSpec { name: name.into(), shape: shape.to_vec() });
        let found = BTreeMap::from([
            ("a".to_owned(), vec![3, 2]),
            ("c".to_owned(), vec![1, 1]),
            ("extra".to_owned(), vec![1]),
            ("model.layers.0.self_attn.rotary_emb.inv_freq".to_owned(), vec![8]),
        ]);
        let report = LoadReport::compare(&wanted, &found);
        assert_eq!(
            report.to_string(),
            "  missing (1):\n    b\n  unexpected (1):\n    extra\n  \
             wrong shape (1):\n    a: expected [2, 3], found [3, 2]"
        );
    }
}
