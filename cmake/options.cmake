# Flags that every target of the project is built with, and the two helpers that declare rooms and
# their tests. Libraries of others are never built with them.
add_library(mea_options INTERFACE)
target_include_directories(mea_options INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_options(mea_options INTERFACE
  "$<$<COMPILE_LANGUAGE:CXX>:-pthread;-Wall;-Wextra;-Werror;-Wshadow;-Wnon-virtual-dtor;-Wno-missing-field-initializers;-fvisibility=hidden>"
  "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-Werror,-fvisibility=hidden;-Werror=all-warnings>")
if(MEA_FUZZ)
  target_compile_options(mea_options INTERFACE -w)  # g++ is the one that warns
endif()
if(MEA_SANITIZE)
  # Instrumented code makes g++ 12 see uninitialised reads that are not there.
  target_compile_options(mea_options INTERFACE -fsanitize=${MEA_SANITIZE} -fno-omit-frame-pointer
                                               -fno-sanitize-recover=all -Wno-maybe-uninitialized)
  target_compile_definitions(mea_options INTERFACE _GLIBCXX_ASSERTIONS)
  target_link_options(mea_options INTERFACE -fsanitize=${MEA_SANITIZE})
endif()

# Headers that take longer to parse than most files that include them take to compile. A target's
# precompiled copy serves many others; where flags differ too much the compiler falls back to the
# headers themselves, which is slower and nothing else. A file still includes all that it uses:
# -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON builds without.
#   mea_headers             the standard library's and Abseil's, for every room
#   mea_server_headers      gRPC's and our protocol's beside them (server/)
#   mea_test_headers        GoogleTest's beside the first
#   mea_server_test_headers GoogleTest's beside the second
set(MEA_COMMON_HEADERS
  <algorithm> <functional> <memory> <optional> <span> <string> <string_view> <unordered_map>
  <utility> <variant> <vector> "<absl/status/statusor.h>" "<absl/strings/str_cat.h>"
  "<absl/time/time.h>")
set(MEA_SERVER_HEADERS
  ${MEA_COMMON_HEADERS} "<absl/synchronization/mutex.h>" "<grpcpp/grpcpp.h>"
  "<mea/v1/control.grpc.pb.h>" "<mea/v1/inference.grpc.pb.h>")
set(MEA_TEST_HEADERS "<gmock/gmock.h>" "<gtest/gtest.h>")

# mea_precompile(NAME LIBS libs... HEADERS headers...)
function(mea_precompile name)
  cmake_parse_arguments(ARG "" "" "LIBS;HEADERS" ${ARGN})
  add_library(${name} OBJECT ${PROJECT_SOURCE_DIR}/cmake/empty.cc)
  target_link_libraries(${name} PRIVATE mea_options ${ARG_LIBS})
  target_precompile_headers(${name} PRIVATE ${ARG_HEADERS})
  # ccache has given the copy of headers that had changed since.
  set_target_properties(${name} PROPERTIES CXX_COMPILER_LAUNCHER "")
endfunction()

# Tests that only ask and compare gain nothing from optimisation: they and their headers are built in
# half the time without.
function(mea_leave_unoptimised)
  foreach(target ${ARGN})
    target_compile_options(${target} PRIVATE -O0)
  endforeach()
endfunction()

# Files that share most of their headers are compiled several at a time: a build from nothing takes
# half as long, one after a change a little longer (-DMEA_UNITY=OFF where that counts). Names at
# namespace scope are then those of a whole room, anonymous or not.
option(MEA_UNITY "Compile several files of a room at a time" ON)
function(mea_unite)
  foreach(target ${ARGN})
    set_target_properties(${target} PROPERTIES UNITY_BUILD ${MEA_UNITY} UNITY_BUILD_BATCH_SIZE 6)
    # A source file included by the batch looks like a header that leaks anonymous types.
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-Wno-subobject-linkage>)
  endforeach()
endfunction()

function(mea_use_precompiled target headers)
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-Wno-error=invalid-pch>)
  target_precompile_headers(${target} REUSE_FROM ${headers})
endfunction()

# mea_room(NAME SOURCES a.cc ... [PUBLIC libs...] [PRIVATE libs...] [PRECOMPILED headers] [APART]): one
# static library of the project; APART: each file by itself, as Highway's must be.
function(mea_room name)
  cmake_parse_arguments(ARG "APART" "PRECOMPILED" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC ${ARG_PUBLIC} PRIVATE mea_options ${ARG_PRIVATE})
  if(NOT ARG_PRECOMPILED)
    set(ARG_PRECOMPILED mea_headers)
  endif()
  mea_use_precompiled(${name} ${ARG_PRECOMPILED})
  if(NOT ARG_APART)
    mea_unite(${name})
  endif()
endfunction()

# mea_test(NAME SOURCES a.cc ... [LIBS libs...] [LABELS slow simt client threads] [PRECOMPILED headers]): one GoogleTest binary.
# Tests that are neither "slow", nor of the commands and what measures servers ("client", which take
# long to build), nor run on the device emulator ("simt", which finds faults of memory
# itself) are the fast ones, which the run under ASan and UBSan builds and repeats; those with the
# label "threads" have several threads at work, so the run under TSan builds and repeats them.
add_custom_target(fast_tests)
add_custom_target(threads_tests)
function(mea_test name)
  cmake_parse_arguments(ARG "" "PRECOMPILED" "SOURCES;LIBS;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE mea_options ${ARG_LIBS} GTest::gmock GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE MEA_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  if(NOT ARG_PRECOMPILED)
    set(ARG_PRECOMPILED mea_test_headers)
  endif()
  mea_use_precompiled(${name} ${ARG_PRECOMPILED})
  mea_unite(${name})
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT 600)
  if(NOT "${ARG_LABELS}" MATCHES "slow|simt|client")
    add_dependencies(fast_tests ${name})
  endif()
  if("threads" IN_LIST ARG_LABELS)
    add_dependencies(threads_tests ${name})
  endif()
endfunction()
