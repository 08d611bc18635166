//! thing, color, position ─► a small image with random variation
//!
//! `examples/train_tiny_vit.rs` includes this module by path and calls [`image_at`].

mod canvas;
mod shapes;

use image::{Rgb, RgbImage};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use canvas::{Placement, render};
pub use shapes::Thing;
use shapes::Tone;

/// Height and width of an image in pixels.
pub const SIDE: u32 = 32;
/// Positions of an object: a grid of three by three.
pub const GRID_POSITIONS: usize = 9;
/// Distance of neighboring positions in pixels.
const STEP: f32 = 4.0;
/// Number of noisy pixels.
const NOISY_PIXELS: usize = 6;
/// Brightness of the darker shade of a color.
const DARK: f32 = 0.65;

/// Color of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Color {
    Red,
    Blue,
    Green,
    Yellow,
    Purple,
    Orange,
}

impl Color {
    /// All colors; `ALL[color as usize] == color`.
    pub const ALL: [Self; 6] =
        [Self::Red, Self::Blue, Self::Green, Self::Yellow, Self::Purple, Self::Orange];

    /// Its name in questions and answers.
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

    fn rgb(self) -> Rgb<u8> {
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

/// What an image shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Labels {
    /// The object.
    pub thing: Thing,
    /// Its color.
    pub color: Color,
    /// Its position on the grid, row by row: 0 is top left, 8 is bottom right.
    pub position: usize,
}

impl Labels {
    /// An object of a color at a random position.
    pub fn at_random_position(thing: Thing, color: Color, rng: &mut impl Rng) -> Self {
        Self { thing, color, position: rng.random_range(0..GRID_POSITIONS) }
    }

    /// Whether the pair of object and color is not in the training data: one object for each color.
    pub fn is_held_out_pair(&self) -> bool {
        self.thing as usize == self.color as usize
    }
}

/// The image of an index: deterministic for a seed, and different from all others. Any 48 consecutive
/// images show each pair once.
pub fn image_at(seed: u64, index: u64) -> (RgbImage, Labels) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // Stream 0 belongs to callers that use the seed directly.
    rng.set_stream(index + 1);
    let pair = index as usize % (Thing::ALL.len() * Color::ALL.len());
    let [thing, color] = [pair % Thing::ALL.len(), pair / Thing::ALL.len()];
    let labels = Labels::at_random_position(Thing::ALL[thing], Color::ALL[color], &mut rng);
    (draw(labels, &mut rng), labels)
}

/// An image of [`SIDE`] by [`SIDE`] pixels with random shade, size, rotation, offset, background and
/// noise.
pub fn draw(labels: Labels, rng: &mut impl Rng) -> RgbImage {
    let gray = if rng.random() { rng.random_range(20..=45) } else { rng.random_range(205..=240) };
    let background = jitter(Rgb([gray; 3]), 10, rng);
    let full = jitter(labels.color.rgb(), 15, rng);
    let dark = Rgb(full.0.map(|part| (f32::from(part) * DARK) as u8));
    let placement = placement(labels.position, rng);
    let mut image = render(SIDE, |point| match labels.thing.tone_at(placement.on_grid(point)) {
        Some(Tone::Full) => full,
        Some(Tone::Dark) => dark,
        Some(Tone::Hole) | None => background,
    });
    for _ in 0..NOISY_PIXELS {
        let by = rng.random_range(-25..=25);
        let pixel = image.get_pixel_mut(rng.random_range(0..SIDE), rng.random_range(0..SIDE));
        pixel.0 = pixel.0.map(|part| part.saturating_add_signed(by));
    }
    image
}

/// A position with a random offset, scale and rotation. The object stays inside the image.
fn placement(position: usize, rng: &mut impl Rng) -> Placement {
    let mut along = |position: usize| {
        SIDE as f32 / 2.0 + STEP * (position as f32 - 1.0) + rng.random_range(-0.7..0.7)
    };
    Placement {
        center: [along(position % 3), along(position / 3)],
        scale: rng.random_range(0.43..0.5),
        rotation: rng.random_range(-0.25..0.25),
        mirrored: rng.random(),
    }
}

/// A color that differs by at most `by` in red, green and blue.
fn jitter(color: Rgb<u8>, by: i8, rng: &mut impl Rng) -> Rgb<u8> {
    Rgb(color.0.map(|part| part.saturating_add_signed(rng.random_range(-by..=by))))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SEED: u64 = 3;

    #[test]
    fn every_48_images_show_each_pair_once() {
        let shown = |indices: std::ops::Range<u64>| -> BTreeSet<_> {
            let labels = indices.map(|index| image_at(SEED, index).1);
            labels.map(|labels| (labels.thing, labels.color)).collect()
        };
        assert_eq!(shown(0..48).len(), 48);
        assert_eq!(shown(96..144).len(), 48);
    }

    #[test]
    fn image_numbers_are_deterministic_and_unique() {
        assert_eq!(image_at(SEED, 5), image_at(SEED, 5));
        let images = (0..500).map(|index| image_at(SEED, index).0.into_raw());
        assert_eq!(images.collect::<BTreeSet<_>>().len(), 500);
        assert_ne!(image_at(SEED, 5).0, image_at(SEED + 1, 5).0);
    }

    #[test]
    fn six_pairs_are_held_out_each_in_its_own_color() {
        let labels = (0..48).map(|index| image_at(SEED, index).1);
        let held_out = labels.filter(Labels::is_held_out_pair).collect::<Vec<_>>();
        assert_eq!(held_out.len(), 6);
        assert_eq!(held_out.iter().map(|labels| labels.color).collect::<BTreeSet<_>>().len(), 6);
        assert_eq!(held_out.iter().map(|labels| labels.thing).collect::<BTreeSet<_>>().len(), 6);
    }

    #[test]
    fn object_has_its_color_and_position() {
        for index in 0..480 {
            let (image, labels) = image_at(SEED, index);
            let full = labels.color.rgb().0;
            let shades = [full, full.map(|part| (f32::from(part) * DARK) as u8)];
            let painted = image.enumerate_pixels().filter(|(_, _, color)| {
                let far =
                    |shade: [u8; 3]| shade.iter().zip(color.0).any(|(a, b)| a.abs_diff(b) > 16);
                !shades.into_iter().all(far)
            });
            let painted = painted.map(|(x, y, _)| [x, y]).collect::<Vec<_>>();
            assert!(painted.len() > 60, "{index}: {labels:?}: {} pixels", painted.len());
            for (axis, position) in
                [labels.position % 3, labels.position / 3].into_iter().enumerate()
            {
                let along = || painted.iter().map(|at| at[axis]);
                let middle = (along().min().unwrap() + along().max().unwrap() + 1) as f32 / 2.0;
                let off = middle - 16.0 - STEP * (position as f32 - 1.0);
                assert!(off.abs() < 3.0, "{index}: {labels:?} is {off} pixels off");
            }
        }
    }

    #[test]
    fn every_object_is_inside_the_image() {
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        let side = SIDE as f32;
        for position in (0..GRID_POSITIONS).cycle().take(300) {
            let placement = placement(position, &mut rng);
            for along in (0..=2 * SIDE).map(|half| half as f32 / 2.0) {
                for edge in [[along, 0.0], [along, side], [0.0, along], [side, along]] {
                    let point = placement.on_grid(edge);
                    for thing in Thing::ALL {
                        assert_eq!(
                            thing.tone_at(point),
                            None,
                            "{thing:?} at {edge:?}, {placement:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn color_has_its_own_index() {
        assert!(Color::ALL.iter().enumerate().all(|(index, color)| *color as usize == index));
    }
}
