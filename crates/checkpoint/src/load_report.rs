//! Mismatches between the tensors that a model expects and those of a checkpoint, in one report.

use std::collections::BTreeMap;
use std::fmt;

/// Name and shape of a tensor that a model expects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name, such as `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// Rows first.
    pub shape: Vec<usize>,
}

/// All mismatches of a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Expected, but not in the files.
    pub missing: Vec<String>,
    /// In the files, but not expected.
    pub unexpected: Vec<String>,
    /// Name, expected shape, found shape.
    pub wrong_shape: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// Tensors with NaN or infinite values.
    pub not_finite: Vec<String>,
}

impl LoadReport {
    /// Compares expected names and shapes with those found. Unexpected tensors for which `is_ignored`
    /// holds are not reported.
    pub fn compare(
        expected: &[TensorSpec],
        found: &BTreeMap<String, Vec<usize>>,
        is_ignored: impl Fn(&str) -> bool,
    ) -> Self {
        let mut report = Self::default();
        for TensorSpec { name, shape } in expected {
            match found.get(name) {
                None => report.missing.push(name.clone()),
                Some(other) if other != shape => {
                    report.wrong_shape.push((name.clone(), shape.clone(), other.clone()));
                }
                Some(_) => {}
            }
        }
        let expected = expected.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>();
        report.unexpected = found
            .keys()
            .filter(|name| !expected.contains(&name.as_str()) && !is_ignored(name))
            .cloned()
            .collect();
        report
    }

    /// The report with renamed tensors; those that share a name become one line.
    pub fn renamed(self, name: impl Fn(&str) -> String) -> Self {
        let rename = |names: Vec<String>| {
            let mut names = names.iter().map(|old| name(old)).collect::<Vec<_>>();
            names.dedup();
            names
        };
        let shapes = self.wrong_shape.into_iter();
        Self {
            missing: rename(self.missing),
            unexpected: self.unexpected,
            wrong_shape: shapes
                .map(|(old, expected, found)| (name(&old), expected, found))
                .collect(),
            not_finite: rename(self.not_finite),
        }
    }

    /// Whether there is no mismatch.
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }
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
        let shapes = self.wrong_shape.iter().map(|(name, expected, found)| {
            format!("{name}: expected {expected:?}, found {found:?}")
        });
        list("wrong shape", shapes.collect());
        list("not finite (NaN or infinite numbers)", self.not_finite.clone());
        f.write_str(&lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_report_lists_all_mismatches() {
        let wanted = [("a", [2, 3]), ("b", [4, 4]), ("c", [1, 1])]
            .map(|(name, shape)| TensorSpec { name: name.into(), shape: shape.to_vec() });
        let found = BTreeMap::from([
            ("a".to_owned(), vec![3, 2]),
            ("c".to_owned(), vec![1, 1]),
            ("extra".to_owned(), vec![1]),
            ("model.layers.0.self_attn.rotary_emb.inv_freq".to_owned(), vec![8]),
        ]);
        let report = LoadReport::compare(&wanted, &found, |name| name.ends_with("inv_freq"));
        assert_eq!(
            report.to_string(),
            "  missing (1):\n    b\n  unexpected (1):\n    extra\n  \
             wrong shape (1):\n    a: expected [2, 3], found [3, 2]"
        );
    }
}
