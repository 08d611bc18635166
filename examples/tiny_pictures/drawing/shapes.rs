//! The things there are to draw: polygons and ovals on a grid from -20 to 20, right and down.

use super::canvas::{Outline, Point};
use Outline::{Oval, Polygon};
use Tone::{Dark, Full, Hole};

/// How a part of a thing is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// With the thing's colour.
    Full,
    /// With a darker shade of it.
    Dark,
    /// With what is behind the thing.
    Hole,
}

/// Something to draw: two each of the garments, tools, fruits and animals of the tiny world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thing {
    Hat,
    Boot,
    Hammer,
    Saw,
    Apple,
    Cherry,
    Owl,
    Sheep,
}

impl Thing {
    /// All of them; each stands at the index that it is cast to.
    pub const ALL: [Self; 8] = [
        Self::Hat,
        Self::Boot,
        Self::Hammer,
        Self::Saw,
        Self::Apple,
        Self::Cherry,
        Self::Owl,
        Self::Sheep,
    ];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hat => "hat",
            Self::Boot => "boot",
            Self::Hammer => "hammer",
            Self::Saw => "saw",
            Self::Apple => "apple",
            Self::Cherry => "cherry",
            Self::Owl => "owl",
            Self::Sheep => "sheep",
        }
    }

    /// What of it is at a point of the grid, or nothing beside it and in its holes.
    pub fn at(self, point: Point) -> Option<Tone> {
        let topmost = self.parts().iter().rev().find(|(_, outline)| outline.contains(point));
        topmost.map(|(tone, _)| *tone).filter(|tone| *tone != Hole)
    }

    /// Later parts lie over earlier ones.
    fn parts(self) -> &'static [(Tone, Outline)] {
        match self {
            Self::Hat => HAT,
            Self::Boot => BOOT,
            Self::Hammer => HAMMER,
            Self::Saw => SAW,
            Self::Apple => APPLE,
            Self::Cherry => CHERRY,
            Self::Owl => OWL,
            Self::Sheep => SHEEP,
        }
    }
}

/// A crown with a band, and the brim.
const HAT: &[(Tone, Outline)] = &[
    (Full, Polygon(&[[-11, -17], [11, -17], [9, 10], [-9, 10]])),
    (Dark, Polygon(&[[-10, 1], [10, 1], [9, 9], [-9, 9]])),
    (Full, Oval { centre: [0, 11], radii: [20, 5] }),
];

/// A shaft over a foot, its upper edge, and the sole with a heel.
const BOOT: &[(Tone, Outline)] = &[
    (Full, Polygon(&[[-12, -19], [2, -19], [2, 0], [11, 3], [18, 8], [19, 14], [-12, 14]])),
    (Dark, Polygon(&[[-13, -20], [3, -20], [3, -14], [-13, -14]])),
    (Dark, Polygon(&[[-12, 13], [19, 13], [19, 18], [0, 18], [-2, 20], [-12, 20]])),
];

/// The handle, and a head with a blunt and a thin end.
const HAMMER: &[(Tone, Outline)] = &[
    (Dark, Polygon(&[[-3, -8], [3, -8], [3, 20], [-3, 20]])),
    (
        Full,
        Polygon(&[
            [-16, -19],
            [6, -19],
            [19, -12],
            [18, -10],
            [6, -8],
            [-7, -8],
            [-7, -6],
            [-16, -6],
        ]),
    ),
];

/// A blade with four teeth, and a handle to put a hand through.
const SAW: &[(Tone, Outline)] = &[
    (
        Full,
        Polygon(&[
            [-20, -7],
            [8, -11],
            [8, 9],
            [4, 6],
            [2, 13],
            [-2, 5],
            [-4, 11],
            [-8, 4],
            [-10, 10],
            [-14, 3],
            [-16, 8],
            [-20, 2],
        ]),
    ),
    (Dark, Polygon(&[[7, -12], [16, -14], [20, -7], [20, 7], [16, 14], [7, 12]])),
    (Hole, Oval { centre: [14, 0], radii: [3, 6] }),
];

/// Two cheeks, the stalk, and a leaf.
const APPLE: &[(Tone, Outline)] = &[
    (Full, Oval { centre: [-7, 4], radii: [11, 14] }),
    (Full, Oval { centre: [7, 4], radii: [11, 14] }),
    (Dark, Polygon(&[[-1, -5], [2, -18], [5, -17], [2, -5]])),
    (Dark, Polygon(&[[3, -11], [8, -18], [17, -18], [12, -12]])),
];

/// Two cherries, as they grow.
const CHERRY: &[(Tone, Outline)] = &[
    (Dark, Polygon(&[[-11, 6], [0, -19], [3, -19], [-8, 6]])),
    (Dark, Polygon(&[[9, 6], [0, -19], [3, -19], [12, 6]])),
    (Full, Oval { centre: [-10, 10], radii: [9, 9] }),
    (Full, Oval { centre: [10, 10], radii: [9, 9] }),
];

/// A body, ears, eyes, a beak, and wings.
const OWL: &[(Tone, Outline)] = &[
    (Full, Oval { centre: [0, 2], radii: [12, 17] }),
    (Full, Polygon(&[[-11, -4], [-12, -19], [0, -13], [12, -19], [11, -4]])),
    (Hole, Oval { centre: [-5, -6], radii: [4, 4] }),
    (Hole, Oval { centre: [5, -6], radii: [4, 4] }),
    (Dark, Polygon(&[[-2, -2], [2, -2], [0, 3]])),
    (Dark, Oval { centre: [-10, 8], radii: [3, 8] }),
    (Dark, Oval { centre: [10, 8], radii: [3, 8] }),
];

/// Legs, wool, and a head.
const SHEEP: &[(Tone, Outline)] = &[
    (Dark, Polygon(&[[-12, 6], [-8, 6], [-8, 18], [-12, 18]])),
    (Dark, Polygon(&[[3, 6], [7, 6], [7, 18], [3, 18]])),
    (Full, Oval { centre: [-11, -1], radii: [8, 8] }),
    (Full, Oval { centre: [-2, -5], radii: [9, 8] }),
    (Full, Oval { centre: [6, -1], radii: [8, 8] }),
    (Full, Oval { centre: [-3, 4], radii: [13, 7] }),
    (Dark, Oval { centre: [15, -5], radii: [5, 7] }),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether each point of the grid, line by line, is drawn on.
    fn silhouette(thing: Thing) -> Vec<bool> {
        let lines = || (-20_i8..=20).map(f32::from);
        lines().flat_map(|y| lines().map(move |x| thing.at([x, y]).is_some())).collect()
    }

    #[test]
    fn every_thing_fills_a_good_part_of_the_grid_and_stays_on_it() {
        for thing in Thing::ALL {
            let filled = silhouette(thing).iter().filter(|drawn| **drawn).count();
            assert!((300..1200).contains(&filled), "{thing:?}: {filled} of 1681 points");
            for step in -25_i8..=25 {
                let along = f32::from(step);
                for beyond in [[along, 21.0], [along, -21.0], [21.0, along], [-21.0, along]] {
                    assert_eq!(thing.at(beyond), None, "{thing:?} at {beyond:?}");
                }
            }
        }
    }

    #[test]
    fn no_two_things_look_alike_either_way_round() {
        let mirrored = |drawn: &[bool]| -> Vec<bool> {
            drawn.chunks(41).flat_map(|line| line.iter().rev().copied()).collect()
        };
        for (index, thing) in Thing::ALL.into_iter().enumerate() {
            let drawn = silhouette(thing);
            for other in &Thing::ALL[..index] {
                let other_drawn = silhouette(*other);
                for other_drawn in [mirrored(&other_drawn), other_drawn] {
                    let differ = drawn.iter().zip(&other_drawn).filter(|(a, b)| a != b).count();
                    assert!(differ > 300, "{thing:?} and {other:?}: {differ} points differ");
                }
            }
        }
    }

    #[test]
    fn later_parts_cover_earlier_ones_and_holes_show_what_is_behind() {
        assert_eq!(Thing::Hat.at([0.0, -10.0]), Some(Full));
        assert_eq!(Thing::Hat.at([0.0, 5.0]), Some(Dark), "the band");
        assert_eq!(Thing::Owl.at([5.0, -6.0]), None, "an eye");
    }

    #[test]
    fn a_thing_stands_at_its_own_index() {
        assert!(Thing::ALL.iter().enumerate().all(|(index, thing)| *thing as usize == index));
    }
}
