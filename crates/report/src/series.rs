//! Curves: smoothing, and fewer points for a picture.

/// A point of a curve.
pub(crate) type Point = (f64, f64);

/// An exponential moving average without the bias of its start. It looks back over about a fiftieth of the
/// curve.
pub fn smooth(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let decay = 1.0 - 1.0 / (points.len() as f64 / 50.0).max(1.0);
    let (mut sum, mut weight) = (0.0, 0.0);
    let smoothed = points.iter().map(|&(x, y)| {
        sum = decay * sum + (1.0 - decay) * y;
        weight = decay * weight + (1.0 - decay);
        (x, sum / weight)
    });
    smoothed.collect()
}

/// At most about `max` points of a curve: of each section the lowest and the highest, in their order, and both
/// ends. Points that are not finite are left out.
pub fn downsample(points: &[(f64, f64)], max: usize) -> Vec<(f64, f64)> {
    let finite = points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite());
    let finite = finite.collect::<Vec<_>>();
    let (Some(&first), Some(&last)) = (finite.first(), finite.last()) else { return finite };
    if finite.len() <= max.max(4) {
        return finite;
    }
    let section = (2 * finite.len()).div_ceil(max.max(4));
    let mut kept = vec![first];
    for points in finite.chunks(section) {
        let by_height = |a: &&Point, b: &&Point| a.1.total_cmp(&b.1);
        let (low, high) = (points.iter().min_by(by_height), points.iter().max_by(by_height));
        let mut ends = [low, high].into_iter().flatten().copied().collect::<Vec<_>>();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        kept.extend(ends);
    }
    kept.push(last);
    kept.dedup();
    kept
}

/// Smallest and largest value; `None` without a finite one.
pub(crate) fn extent(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| value.is_finite()).fold(None, |found, value| match found {
        None => Some((value, value)),
        Some((low, high)) => Some((low.min(value), high.max(value))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_stays_constant_when_smoothed() {
        let points = (0..200).map(|x| (f64::from(x), 3.0)).collect::<Vec<_>>();
        assert!(smooth(&points).iter().all(|(_, y)| (y - 3.0).abs() < 1e-12));
        assert_eq!(smooth(&[]), []);
    }

    #[test]
    fn a_short_curve_is_not_smoothed() {
        let points = [(1.0, 4.0), (2.0, 2.0), (3.0, 1.0)];
        assert_eq!(smooth(&points), points);
    }

    #[test]
    fn fewer_points_keep_the_ends_and_the_extremes() {
        let height = |x: i32| if x == 777 { 50.0 } else { f64::from(x % 7) };
        let points = (0..10_000).map(|x| (f64::from(x), height(x))).collect::<Vec<_>>();
        let fewer = downsample(&points, 200);
        assert!(fewer.len() <= 204, "{}", fewer.len());
        assert_eq!((fewer[0], fewer[fewer.len() - 1]), (points[0], points[9_999]));
        assert!(fewer.contains(&(777.0, 50.0)));
        assert!(fewer.is_sorted_by(|a, b| a.0 <= b.0));
    }

    #[test]
    fn values_that_are_not_finite_are_left_out() {
        let points = [(1.0, f64::NAN), (2.0, 1.0), (3.0, f64::INFINITY)];
        assert_eq!(downsample(&points, 100), [(2.0, 1.0)]);
        assert_eq!(extent([f64::NAN, 2.0, -1.0].into_iter()), Some((-1.0, 2.0)));
        assert_eq!(extent([f64::NAN].into_iter()), None);
    }
}
