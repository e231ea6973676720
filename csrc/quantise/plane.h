// Two directions in which a row may move at once, as far as its error sees them.
#pragma once

namespace qwen35 {

// Steps along u and v.
struct Step {
  double x;
  double y;
};

// Off by d, a row costs d H d^T; adding x u + y v to its values takes gain({x, y}) off that.
struct Plane {
  double ud, vd;      // u H d, v H d
  double uu, uv, vv;  // u H u, u H v, v H v

  double gain(Step s) const noexcept {
    return 2.0 * (s.x * ud + s.y * vd) - (s.x * s.x * uu + 2.0 * s.x * s.y * uv + s.y * s.y * vv);
  }
  double best_x() const noexcept { return uu > 0.0 ? ud / uu : 0.0; }
  double best_y(double x) const noexcept { return vv > 0.0 ? (vd - x * uv) / vv : 0.0; }
  // x of the best pair; of x alone where the directions are nearly one.
  double best_x_of_pair() const noexcept {
    const double determinant = uu * vv - uv * uv;
    return determinant > 1e-6 * uu * vv ? (ud * vv - vd * uv) / determinant : best_x();
  }
};

}  // namespace qwen35
