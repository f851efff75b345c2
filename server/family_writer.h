#pragma once

#include <prometheus/client_metric.h>
#include <prometheus/metric_family.h>
#include <prometheus/metric_type.h>

#include <string>
#include <utility>
#include <vector>

namespace mea {

// Adds families of gauges and counters that carry the model's name.
class FamilyWriter {
 public:
  using Labels = std::vector<prometheus::ClientMetric::Label>;

  FamilyWriter(const std::string& model_name, std::vector<prometheus::MetricFamily>& families)
      : model_name_(model_name), families_(families) {}

  void Family(std::string name, prometheus::MetricType type, std::string help) {
    families_.push_back(
        {.name = std::move(name), .help = std::move(help), .type = type, .metric = {}});
  }
  void Sample(double value, const Labels& labels = {}) {
    prometheus::ClientMetric metric;
    metric.label = labels;
    metric.label.insert(metric.label.begin(), {"model_name", model_name_});
    if (families_.back().type == prometheus::MetricType::Counter) {
      metric.counter.value = value;
    } else {
      metric.gauge.value = value;
    }
    families_.back().metric.push_back(std::move(metric));
  }
  void Gauge(std::string name, std::string help, double value) {
    Family(std::move(name), prometheus::MetricType::Gauge, std::move(help));
    Sample(value);
  }
  void Counter(std::string name, std::string help, double value) {
    Family(std::move(name), prometheus::MetricType::Counter, std::move(help));
    Sample(value);
  }

 private:
  const std::string& model_name_;
  std::vector<prometheus::MetricFamily>& families_;
};

}  // namespace mea
