#pragma once

namespace mea {

// a / b, or 0 if b is 0.
inline double Ratio(double a, double b) { return b > 0 ? a / b : 0; }

}  // namespace mea
