//! color at each point ─► four samples per pixel ─► antialiased image

use image::{Rgb, RgbImage};

/// Samples per pixel in each direction; more make edges smoother and files larger.
const SAMPLES: u32 = 2;

/// A point `[x, y]`; y points down.
pub type Point = [f32; 2];

/// A corner or a length on the grid on which objects are defined.
pub type GridPoint = [i8; 2];

/// A filled area of the grid.
#[derive(Clone, Copy, Debug)]
pub enum Outline {
    /// The polygon with these corners.
    Polygon(&'static [GridPoint]),
    /// An axis-aligned ellipse.
    Oval {
        /// Its center.
        center: GridPoint,
        /// Half of its width and of its height.
        radii: GridPoint,
    },
}

impl Outline {
    /// Whether a point is inside.
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
            Self::Oval { center, radii } => {
                let ([middle, height], [across, down]) =
                    (center.map(f32::from), radii.map(f32::from));
                ((x - middle) / across).powi(2) + ((y - height) / down).powi(2) < 1.0
            }
        }
    }
}

/// Transform from the grid to the canvas.
#[derive(Clone, Copy, Debug)]
pub struct Placement {
    /// Position of the grid's origin in pixels.
    pub center: Point,
    /// Pixels per grid unit.
    pub scale: f32,
    /// Clockwise rotation in radians.
    pub rotation: f32,
    /// Whether left and right are swapped before the rotation.
    pub mirrored: bool,
}

impl Placement {
    /// The grid point that is drawn at a canvas point.
    pub fn on_grid(&self, [x, y]: Point) -> Point {
        let [x, y] = [(x - self.center[0]) / self.scale, (y - self.center[1]) / self.scale];
        let (sin, cos) = self.rotation.sin_cos();
        let [x, y] = [x * cos + y * sin, y * cos - x * sin];
        [if self.mirrored { -x } else { x }, y]
    }
}

/// A square image of `side` pixels; each pixel is the mean of `color_at` over its samples.
pub fn render(side: u32, color_at: impl Fn(Point) -> Rgb<u8>) -> RgbImage {
    RgbImage::from_fn(side, side, |x, y| {
        let middle =
            |pixel: u32, sample: u32| pixel as f32 + (sample as f32 + 0.5) / SAMPLES as f32;
        let mut sum = [0_u32; 3];
        for sample in 0..SAMPLES.pow(2) {
            let point = [middle(x, sample % SAMPLES), middle(y, sample / SAMPLES)];
            sum.iter_mut().zip(color_at(point).0).for_each(|(sum, one)| *sum += u32::from(one));
        }
        Rgb(sum.map(|sum| (sum / SAMPLES.pow(2)) as u8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polygon_contains_its_inside() {
        let triangle = Outline::Polygon(&[[0, 0], [4, 0], [0, 4]]);
        assert!(triangle.contains([1.0, 1.0]));
        for outside in [[3.0, 3.0], [-1.0, 1.0], [1.0, -1.0], [5.0, 1.0]] {
            assert!(!triangle.contains(outside), "{outside:?}");
        }
    }

    #[test]
    fn oval_extends_to_its_radii() {
        let oval = Outline::Oval { center: [1, 0], radii: [2, 1] };
        assert!(oval.contains([2.9, 0.0]) && oval.contains([1.0, 0.9]));
        assert!(!oval.contains([3.1, 0.0]) && !oval.contains([1.0, 1.1]));
        assert!(!oval.contains([2.9, 0.9]), "a corner of the bounding box");
    }

    #[test]
    fn placement_translates_scales_rotates_and_mirrors() {
        let near = |[x, y]: Point, [right, down]: Point| {
            assert!((x - right).abs() < 1e-5 && (y - down).abs() < 1e-5, "{x} {y}");
        };
        let plain = Placement { center: [10.0, 6.0], scale: 2.0, rotation: 0.0, mirrored: false };
        near(plain.on_grid([14.0, 8.0]), [2.0, 1.0]);
        near(Placement { mirrored: true, ..plain }.on_grid([14.0, 8.0]), [-2.0, 1.0]);
        // A quarter turn clockwise moves the right side to the bottom.
        let rotated = Placement { rotation: std::f32::consts::FRAC_PI_2, ..plain };
        near(rotated.on_grid([10.0, 10.0]), [2.0, 0.0]);
    }

    #[test]
    fn pixel_on_an_edge_mixes_both_sides() {
        let row = |edge: f32| {
            let image = render(3, |[x, _]| Rgb(if x < edge { [90, 0, 9] } else { [0, 30, 9] }));
            [0, 1, 2].map(|x| image.get_pixel(x, 1).0)
        };
        assert_eq!(row(1.5), [[90, 0, 9], [45, 15, 9], [0, 30, 9]]);
        // An edge that passes no sample of a pixel does not change it.
        assert_eq!(row(1.2), [[90, 0, 9], [0, 30, 9], [0, 30, 9]]);
        assert_eq!(row(1.8), [[90, 0, 9], [90, 0, 9], [0, 30, 9]]);
    }
}
