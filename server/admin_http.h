#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace mea {

struct HttpAnswer {
  int code = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
};

// HTTP/1.1 as far as probes, scrapers and browsers need it: GET and HEAD on a handful of paths, one
// request per connection. Two threads of its own; a client has five seconds.
class AdminHttp {
 public:
  using Handlers = std::map<std::string, std::function<HttpAnswer()>>;  // by path

  // `address` is host:port; port 0 takes a free one. INVALID_ARGUMENT, or UNAVAILABLE where the
  // port cannot be had.
  static absl::StatusOr<std::unique_ptr<AdminHttp>> Start(const std::string& address,
                                                          Handlers handlers);
  ~AdminHttp();
  AdminHttp(const AdminHttp&) = delete;
  AdminHttp& operator=(const AdminHttp&) = delete;

  const std::string& address() const { return address_; }  // with the real port

 private:
  AdminHttp(Handlers handlers, std::string address, int listen_fd);

  void Run();
  void Serve(int connection) const;
  HttpAnswer Answer(const std::string& method, const std::string& path) const;

  const Handlers handlers_;
  const std::string address_;
  const int listen_fd_;
  const int stop_fd_;  // readable: time to stop
  std::vector<std::thread> threads_;
};

}  // namespace mea
