#include "engine/bench/paced.h"

#include <istream>
#include <nlohmann/json.hpp>
#include <ostream>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/bench/report.h"

namespace mea {
namespace {

absl::StatusOr<std::vector<BenchRow>> Answer(EngineBench& bench, const std::string& request) {
  std::istringstream words(request);
  StepPoint point;
  std::string rest;
  if (!(words >> point.batch >> point.context >> point.tokens) || words >> rest) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", request, "\" is not BATCH CONTEXT TOKENS"));
  }
  return bench.Measure(point);
}

}  // namespace

void MeasureOnRequest(EngineBench& bench, std::istream& requests, std::ostream& answers) {
  for (std::string line; std::getline(requests, line);) {
    const absl::StatusOr<std::vector<BenchRow>> rows = Answer(bench, line);
    nlohmann::ordered_json answer;
    if (rows.ok()) {
      answer["results"] = ToJson(*rows);
    } else {
      answer["error"] = std::string(rows.status().message());
    }
    answers << answer.dump() << std::endl;  // the client waits for it
  }
}

}  // namespace mea
