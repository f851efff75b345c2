#include "server/http/routes.h"

#include "absl/strings/str_cat.h"

namespace mea {
namespace {

// How well the path of a route matches: -1 means not at all, more is better.
int PathFit(std::string_view pattern, std::string_view path) {
  const int length = static_cast<int>(pattern.size());
  if (!pattern.ends_with("/*")) return pattern == path ? 2 * length + 1 : -1;
  pattern.remove_suffix(1);
  return path.size() > pattern.size() && path.starts_with(pattern) ? length : -1;
}

}  // namespace

HttpRoutes::Match HttpRoutes::Find(std::string_view method, std::string_view path) const {
  int best = -1;
  for (const HttpServer::Route& route : routes_) best = std::max(best, PathFit(route.path, path));
  Match match;
  if (best < 0) return match;
  const HttpServer::Route* get = nullptr;
  for (const HttpServer::Route& route : routes_) {
    if (PathFit(route.path, path) != best) continue;
    if (route.method == method) match.route = &route;
    if (route.method == "GET") get = &route;
    absl::StrAppend(&match.allow, route.method, ", ");
  }
  if (get != nullptr) absl::StrAppend(&match.allow, "HEAD, ");
  absl::StrAppend(&match.allow, "OPTIONS");
  if (match.route == nullptr && method == "HEAD") match.route = get;
  return match;
}

}  // namespace mea
