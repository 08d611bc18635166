//! Scores of answers and of choices, their intervals, and task files of lm-evaluation-harness.
