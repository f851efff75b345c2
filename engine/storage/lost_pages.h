#pragma once

#include <cstdint>
#include <string>

namespace mea {

// A page of a mapped file that is not there any more when it is read, because the file was cut
// short or its disk failed, is SIGBUS: nothing that was computed from it can be saved. From here on
// the process then ends with `exit_code` and one line on stderr that names the file:
//   PROGRAM: PATH: lost while it was in use: ...
// For SIGBUS of any other cause nothing changes.
void ExitOnLostPages(const std::string& program, int exit_code);

// The files that the handler knows: a MappedFile is listed as long as it lives. `path` must live as
// long. Thread-safe. A file beyond the first 8192 is not listed, and its loss not explained.
void ListMappedFile(const char* data, int64_t size, const char* path);
void UnlistMappedFile(const char* data);

}  // namespace mea
