//! The objects: polygons and ovals on a grid from -20 to 20.

use super::canvas::{Outline, Point};
use Outline::{Oval, Polygon};
use Tone::{Dark, Full, Hole};

/// Fill of a part of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// The object's color.
    Full,
    /// A darker shade of it.
    Dark,
    /// The background.
    Hole,
}

/// An object: two each of the garments, tools, fruits and animals of the tiny world.
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
    /// All objects; `ALL[thing as usize] == thing`.
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

    /// Its name in questions and answers.
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

    /// The tone at a grid point, or `None` outside of the object and in its holes.
    pub fn tone_at(self, point: Point) -> Option<Tone> {
        let topmost = self.parts().iter().rev().find(|(_, outline)| outline.contains(point));
        topmost.map(|(tone, _)| *tone).filter(|tone| *tone != Hole)
    }

    /// Its parts; later ones cover earlier ones.
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

/// Crown, band, brim.
const HAT: &[(Tone, Outline)] = &[
    (Full, Polygon(&[[-11, -17], [11, -17], [9, 10], [-9, 10]])),
    (Dark, Polygon(&[[-10, 1], [10, 1], [9, 9], [-9, 9]])),
    (Full, Oval { center: [0, 11], radii: [20, 5] }),
];

/// Shaft and foot, upper edge, sole with a heel.
const BOOT: &[(Tone, Outline)] = &[
    (Full, Polygon(&[[-12, -19], [2, -19], [2, 0], [11, 3], [18, 8], [19, 14], [-12, 14]])),
    (Dark, Polygon(&[[-13, -20], [3, -20], [3, -14], [-13, -14]])),
    (Dark, Polygon(&[[-12, 13], [19, 13], [19, 18], [0, 18], [-2, 20], [-12, 20]])),
];

/// Handle, and a head with a blunt and a thin end.
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

/// Blade with four teeth, handle with a hole.
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
    (Hole, Oval { center: [14, 0], radii: [3, 6] }),
];

/// Two halves, stalk, leaf.
const APPLE: &[(Tone, Outline)] = &[
    (Full, Oval { center: [-7, 4], radii: [11, 14] }),
    (Full, Oval { center: [7, 4], radii: [11, 14] }),
    (Dark, Polygon(&[[-1, -5], [2, -18], [5, -17], [2, -5]])),
    (Dark, Polygon(&[[3, -11], [8, -18], [17, -18], [12, -12]])),
];

/// Two stalks, two cherries.
const CHERRY: &[(Tone, Outline)] = &[
    (Dark, Polygon(&[[-11, 6], [0, -19], [3, -19], [-8, 6]])),
    (Dark, Polygon(&[[9, 6], [0, -19], [3, -19], [12, 6]])),
    (Full, Oval { center: [-10, 10], radii: [9, 9] }),
    (Full, Oval { center: [10, 10], radii: [9, 9] }),
];

/// Body, ears, eyes, beak, wings.
const OWL: &[(Tone, Outline)] = &[
    (Full, Oval { center: [0, 2], radii: [12, 17] }),
    (Full, Polygon(&[[-11, -4], [-12, -19], [0, -13], [12, -19], [11, -4]])),
    (Hole, Oval { center: [-5, -6], radii: [4, 4] }),
    (Hole, Oval { center: [5, -6], radii: [4, 4] }),
    (Dark, Polygon(&[[-2, -2], [2, -2], [0, 3]])),
    (Dark, Oval { center: [-10, 8], radii: [3, 8] }),
    (Dark, Oval { center: [10, 8], radii: [3, 8] }),
];

/// Legs, wool, head.
const SHEEP: &[(Tone, Outline)] = &[
    (Dark, Polygon(&[[-12, 6], [-8, 6], [-8, 18], [-12, 18]])),
    (Dark, Polygon(&[[3, 6], [7, 6], [7, 18], [3, 18]])),
    (Full, Oval { center: [-11, -1], radii: [8, 8] }),
    (Full, Oval { center: [-2, -5], radii: [9, 8] }),
    (Full, Oval { center: [6, -1], radii: [8, 8] }),
    (Full, Oval { center: [-3, 4], radii: [13, 7] }),
    (Dark, Oval { center: [15, -5], radii: [5, 7] }),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether each grid point is filled, row by row.
    fn silhouette(thing: Thing) -> Vec<bool> {
        let lines = || (-20_i8..=20).map(f32::from);
        lines().flat_map(|y| lines().map(move |x| thing.tone_at([x, y]).is_some())).collect()
    }

    #[test]
    fn every_object_fills_a_large_part_of_the_grid_and_stays_inside() {
        for thing in Thing::ALL {
            let filled = silhouette(thing).iter().filter(|drawn| **drawn).count();
            assert!((300..1200).contains(&filled), "{thing:?}: {filled} of 1681 points");
            for step in -25_i8..=25 {
                let along = f32::from(step);
                for beyond in [[along, 21.0], [along, -21.0], [21.0, along], [-21.0, along]] {
                    assert_eq!(thing.tone_at(beyond), None, "{thing:?} at {beyond:?}");
                }
            }
        }
    }

    #[test]
    fn objects_differ_also_when_mirrored() {
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
    fn later_parts_cover_earlier_ones_and_holes_are_transparent() {
        assert_eq!(Thing::Hat.tone_at([0.0, -10.0]), Some(Full));
        assert_eq!(Thing::Hat.tone_at([0.0, 5.0]), Some(Dark), "the band");
        assert_eq!(Thing::Owl.tone_at([5.0, -6.0]), None, "an eye");
    }

    #[test]
    fn object_has_its_own_index() {
        assert!(Thing::ALL.iter().enumerate().all(|(index, thing)| *thing as usize == index));
    }
}
