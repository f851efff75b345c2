#pragma once

namespace mea {

// a / b, and 0 of nothing.
inline double Ratio(double a, double b) { return b > 0 ? a / b : 0; }

}  // namespace mea
