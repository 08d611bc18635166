//! What is at a point ─► asked at four points of every pixel ─► an image with smooth edges.

use image::{Rgb, RgbImage};

/// Points asked of a pixel, across and down; more make the edges smoother and the files larger.
const SAMPLES: u32 = 2;

/// A point, right and down from its origin.
pub type Point = [f32; 2];

/// A corner or a length on the grid that things are drawn on.
pub type GridPoint = [i8; 2];

/// A filled area of the grid.
#[derive(Clone, Copy, Debug)]
pub enum Outline {
    /// What lies within straight lines from corner to corner and back to the first.
    Polygon(&'static [GridPoint]),
    /// An ellipse along the axes.
    Oval {
        /// Its middle.
        centre: GridPoint,
        /// Half its width and half its height.
        radii: GridPoint,
    },
}

impl Outline {
    /// Whether a point lies inside.
    pub fn contains(&self, [x, y]: Point) -> bool {
        match self {
            Self::Polygon(corners) => {
                let before = corners.iter().cycle().skip(corners.len() - 1);
                // A ray to the right crosses the outline an odd number of times.
                let crossed = corners.iter().zip(before).filter(|(from, to)| {
                    let ([x1, y1], [x2, y2]) = (from.map(f32::from), to.map(f32::from));
                    (y1 > y) != (y2 > y) && x < x1 + (y - y1) / (y2 - y1) * (x2 - x1)
                });
                crossed.count() % 2 == 1
            }
            Self::Oval { centre, radii } => {
                let ([middle, height], [across, down]) =
                    (centre.map(f32::from), radii.map(f32::from));
                ((x - middle) / across).powi(2) + ((y - height) / down).powi(2) < 1.0
            }
        }
    }
}

/// Where and how the grid lies on the canvas.
#[derive(Clone, Copy, Debug)]
pub struct Placement {
    /// Where the grid's origin comes to lie, in pixels.
    pub centre: Point,
    /// Pixels between two lines of the grid.
    pub scale: f32,
    /// Turned clockwise, in radians.
    pub turn: f32,
    /// Left and right exchanged, before it is turned.
    pub mirrored: bool,
}

impl Placement {
    /// The point of the grid that comes to lie on a point of the canvas.
    pub fn on_grid(&self, [x, y]: Point) -> Point {
        let [x, y] = [(x - self.centre[0]) / self.scale, (y - self.centre[1]) / self.scale];
        let (sin, cos) = self.turn.sin_cos();
        let [x, y] = [x * cos + y * sin, y * cos - x * sin];
        [if self.mirrored { -x } else { x }, y]
    }
}

/// A square image of `side` pixels; each is the mean of what `colour_at` says within it.
pub fn paint(side: u32, colour_at: impl Fn(Point) -> Rgb<u8>) -> RgbImage {
    RgbImage::from_fn(side, side, |x, y| {
        let middle =
            |pixel: u32, sample: u32| pixel as f32 + (sample as f32 + 0.5) / SAMPLES as f32;
        let mut sum = [0_u32; 3];
        for sample in 0..SAMPLES.pow(2) {
            let point = [middle(x, sample % SAMPLES), middle(y, sample / SAMPLES)];
            sum.iter_mut().zip(colour_at(point).0).for_each(|(sum, one)| *sum += u32::from(one));
        }
        Rgb(sum.map(|sum| (sum / SAMPLES.pow(2)) as u8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_polygon_holds_what_its_lines_surround() {
        let triangle = Outline::Polygon(&[[0, 0], [4, 0], [0, 4]]);
        assert!(triangle.contains([1.0, 1.0]));
        for outside in [[3.0, 3.0], [-1.0, 1.0], [1.0, -1.0], [5.0, 1.0]] {
            assert!(!triangle.contains(outside), "{outside:?}");
        }
    }

    #[test]
    fn an_oval_is_as_wide_and_as_high_as_its_radii() {
        let oval = Outline::Oval { centre: [1, 0], radii: [2, 1] };
        assert!(oval.contains([2.9, 0.0]) && oval.contains([1.0, 0.9]));
        assert!(!oval.contains([3.1, 0.0]) && !oval.contains([1.0, 1.1]));
        assert!(!oval.contains([2.9, 0.9]), "its corners are cut off");
    }

    #[test]
    fn a_placement_moves_scales_turns_and_mirrors() {
        let near = |[x, y]: Point, [right, down]: Point| {
            assert!((x - right).abs() < 1e-5 && (y - down).abs() < 1e-5, "{x} {y}");
        };
        let plain = Placement { centre: [10.0, 6.0], scale: 2.0, turn: 0.0, mirrored: false };
        near(plain.on_grid([14.0, 8.0]), [2.0, 1.0]);
        near(Placement { mirrored: true, ..plain }.on_grid([14.0, 8.0]), [-2.0, 1.0]);
        // A quarter turn clockwise brings to the bottom what was on the right.
        let turned = Placement { turn: std::f32::consts::FRAC_PI_2, ..plain };
        near(turned.on_grid([10.0, 10.0]), [2.0, 0.0]);
    }

    #[test]
    fn a_pixel_on_an_edge_mixes_both_sides() {
        let row = |edge: f32| {
            let image = paint(3, |[x, _]| Rgb(if x < edge { [90, 0, 9] } else { [0, 30, 9] }));
            [0, 1, 2].map(|x| image.get_pixel(x, 1).0)
        };
        assert_eq!(row(1.5), [[90, 0, 9], [45, 15, 9], [0, 30, 9]]);
        // As little of a pixel is too little to count on its left as on its right.
        assert_eq!(row(1.2), [[90, 0, 9], [0, 30, 9], [0, 30, 9]]);
        assert_eq!(row(1.8), [[90, 0, 9], [90, 0, 9], [0, 30, 9]]);
    }
}
