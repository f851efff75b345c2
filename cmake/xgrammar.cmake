# The library xgrammar as the target xgrammar::xgrammar: what tools/install_deps built.
set(MEA_DEPS_DIR "$ENV{MEA_DEPS_DIR}" CACHE PATH "Where tools/install_deps puts what Debian lacks")
if(NOT MEA_DEPS_DIR)
  set(MEA_DEPS_DIR ${PROJECT_SOURCE_DIR}/build/deps)
endif()

set(xgrammar_version 0.2.9)
set(xgrammar_stamp "")
if(EXISTS ${MEA_DEPS_DIR}/xgrammar/stamp)
  file(STRINGS ${MEA_DEPS_DIR}/xgrammar/stamp xgrammar_stamp LIMIT_COUNT 1)
endif()
if(NOT "${xgrammar_stamp} " MATCHES "^${xgrammar_version} ")
  message(FATAL_ERROR "no xgrammar ${xgrammar_version} in ${MEA_DEPS_DIR}; run tools/install_deps")
endif()
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${MEA_DEPS_DIR}/xgrammar/stamp)

# Never instrumented by sanitizers and never built with our warnings: the headers are system headers.
add_library(xgrammar::xgrammar STATIC IMPORTED GLOBAL)
set_target_properties(xgrammar::xgrammar PROPERTIES
  IMPORTED_LOCATION ${MEA_DEPS_DIR}/xgrammar/lib/libxgrammar.a
  INTERFACE_INCLUDE_DIRECTORIES ${MEA_DEPS_DIR}/xgrammar/include
  INTERFACE_LINK_LIBRARIES Threads::Threads)
