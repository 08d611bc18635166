//! thing, colour, place ─► one small picture, never the same twice.
//!
//! Stands alone: a program that wants pictures without files takes this folder in with
//! `#[path = "../tiny_pictures/drawing/mod.rs"] mod drawing;` and calls [`numbered`].

mod canvas;
mod shapes;

use image::{Rgb, RgbImage};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use canvas::{Placement, paint};
pub use shapes::Thing;
use shapes::Tone;

/// Pixels a side.
pub const SIDE: u32 = 32;
/// Places that a thing may be at, three in a row.
pub const PLACES: usize = 9;
/// Pixels from one place to the next.
const STEP: f32 = 4.0;
/// Single pixels that are lighter or darker than they should be.
const SPECKS: usize = 6;
/// What is left of a colour's light in its darker shade.
const DARK: f32 = 0.65;

/// What a thing may be painted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Colour {
    Red,
    Blue,
    Green,
    Yellow,
    Purple,
    Orange,
}

impl Colour {
    /// All of them; each stands at the index that it is cast to.
    pub const ALL: [Self; 6] =
        [Self::Red, Self::Blue, Self::Green, Self::Yellow, Self::Purple, Self::Orange];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Red => "red",
            Self::Blue => "blue",
            Self::Green => "green",
            Self::Yellow => "yellow",
            Self::Purple => "purple",
            Self::Orange => "orange",
        }
    }

    fn paint(self) -> Rgb<u8> {
        Rgb(match self {
            Self::Red => [215, 40, 40],
            Self::Blue => [45, 95, 225],
            Self::Green => [40, 160, 60],
            Self::Yellow => [240, 215, 50],
            Self::Purple => [155, 65, 195],
            Self::Orange => [240, 135, 30],
        })
    }
}

/// What a picture shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Labels {
    /// The one thing in it.
    pub thing: Thing,
    /// The thing's colour.
    pub colour: Colour,
    /// Where the thing is: 0 at the top left, 1 beside it, up to 8 at the bottom right.
    pub place: usize,
}

impl Labels {
    /// A thing of a colour, anywhere.
    pub fn anywhere(thing: Thing, colour: Colour, rng: &mut impl Rng) -> Self {
        Self { thing, colour, place: rng.random_range(0..PLACES) }
    }

    /// Whether the thing is kept from training in this colour: one thing for each colour.
    pub fn is_held_out_pair(&self) -> bool {
        self.thing as usize == self.colour as usize
    }
}

/// One of any number of pictures: the same for the same seed and index, and different from all
/// others. Things and colours take turns, so that every 48 in a row show each pair once.
pub fn picture_at(seed: u64, index: u64) -> (RgbImage, Labels) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // The first stream is left to those who draw from the seed itself.
    rng.set_stream(index + 1);
    let pair = index as usize % (Thing::ALL.len() * Colour::ALL.len());
    let [thing, colour] = [pair % Thing::ALL.len(), pair / Thing::ALL.len()];
    let labels = Labels::anywhere(Thing::ALL[thing], Colour::ALL[colour], &mut rng);
    (draw(labels, &mut rng), labels)
}

/// A picture of [`SIDE`] by [`SIDE`] pixels. Shade, size, turn, exact place, background and specks
/// are drawn anew each time.
pub fn draw(labels: Labels, rng: &mut impl Rng) -> RgbImage {
    let grey = if rng.random() { rng.random_range(20..=45) } else { rng.random_range(205..=240) };
    let ground = near(Rgb([grey; 3]), 10, rng);
    let full = near(labels.colour.paint(), 15, rng);
    let dark = Rgb(full.0.map(|part| (f32::from(part) * DARK) as u8));
    let placement = placement(labels.place, rng);
    let mut image = paint(SIDE, |point| match labels.thing.at(placement.on_grid(point)) {
        Some(Tone::Full) => full,
        Some(Tone::Dark) => dark,
        Some(Tone::Hole) | None => ground,
    });
    for _ in 0..SPECKS {
        let by = rng.random_range(-25..=25);
        let pixel = image.get_pixel_mut(rng.random_range(0..SIDE), rng.random_range(0..SIDE));
        pixel.0 = pixel.0.map(|part| part.saturating_add_signed(by));
    }
    image
}

/// At a place, give or take a pixel, somewhat turned, and small enough to stay in the picture.
fn placement(place: usize, rng: &mut impl Rng) -> Placement {
    let mut along = |place: usize| {
        SIDE as f32 / 2.0 + STEP * (place as f32 - 1.0) + rng.random_range(-0.7..0.7)
    };
    Placement {
        centre: [along(place % 3), along(place / 3)],
        scale: rng.random_range(0.43..0.5),
        turn: rng.random_range(-0.25..0.25),
        mirrored: rng.random(),
    }
}

/// A colour that differs by at most `by` in red, green and blue.
fn near(colour: Rgb<u8>, by: i8, rng: &mut impl Rng) -> Rgb<u8> {
    Rgb(colour.0.map(|part| part.saturating_add_signed(rng.random_range(-by..=by))))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SEED: u64 = 3;

    #[test]
    fn every_48_pictures_show_each_pair_once() {
        let shown = |indices: std::ops::Range<u64>| -> BTreeSet<_> {
            let labels = indices.map(|index| picture_at(SEED, index).1);
            labels.map(|labels| (labels.thing, labels.colour)).collect()
        };
        assert_eq!(shown(0..48).len(), 48);
        assert_eq!(shown(96..144).len(), 48);
    }

    #[test]
    fn a_number_always_means_the_same_picture_and_no_other_has_it() {
        assert_eq!(picture_at(SEED, 5), picture_at(SEED, 5));
        let pictures = (0..500).map(|index| picture_at(SEED, index).0.into_raw());
        assert_eq!(pictures.collect::<BTreeSet<_>>().len(), 500);
        assert_ne!(picture_at(SEED, 5).0, picture_at(SEED + 1, 5).0);
    }

    #[test]
    fn six_pairs_are_new_each_in_a_colour_of_its_own() {
        let labels = (0..48).map(|index| picture_at(SEED, index).1);
        let new = labels.filter(Labels::is_held_out_pair).collect::<Vec<_>>();
        assert_eq!(new.len(), 6);
        assert_eq!(new.iter().map(|labels| labels.colour).collect::<BTreeSet<_>>().len(), 6);
        assert_eq!(new.iter().map(|labels| labels.thing).collect::<BTreeSet<_>>().len(), 6);
    }

    #[test]
    fn a_thing_has_its_colour_and_lies_at_its_place() {
        for index in 0..480 {
            let (image, labels) = picture_at(SEED, index);
            let full = labels.colour.paint().0;
            let shades = [full, full.map(|part| (f32::from(part) * DARK) as u8)];
            let painted = image.enumerate_pixels().filter(|(_, _, colour)| {
                let far =
                    |shade: [u8; 3]| shade.iter().zip(colour.0).any(|(a, b)| a.abs_diff(b) > 16);
                !shades.into_iter().all(far)
            });
            let painted = painted.map(|(x, y, _)| [x, y]).collect::<Vec<_>>();
            assert!(painted.len() > 60, "{index}: {labels:?}: {} pixels", painted.len());
            for (axis, place) in [labels.place % 3, labels.place / 3].into_iter().enumerate() {
                let along = || painted.iter().map(|at| at[axis]);
                let middle = (along().min().unwrap() + along().max().unwrap() + 1) as f32 / 2.0;
                let off = middle - 16.0 - STEP * (place as f32 - 1.0);
                assert!(off.abs() < 3.0, "{index}: {labels:?} is {off} pixels off");
            }
        }
    }

    #[test]
    fn no_thing_leaves_the_picture() {
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        let side = SIDE as f32;
        for place in (0..PLACES).cycle().take(300) {
            let placement = placement(place, &mut rng);
            for along in (0..=2 * SIDE).map(|half| half as f32 / 2.0) {
                for edge in [[along, 0.0], [along, side], [0.0, along], [side, along]] {
                    let point = placement.on_grid(edge);
                    for thing in Thing::ALL {
                        assert_eq!(thing.at(point), None, "{thing:?} at {edge:?}, {placement:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_colour_stands_at_its_own_index() {
        assert!(Colour::ALL.iter().enumerate().all(|(index, colour)| *colour as usize == index));
    }
}
