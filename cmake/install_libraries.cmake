# Runs at the end of `cmake --install`, with icupkg and source_dir set.
set(prefix $ENV{DESTDIR}${CMAKE_INSTALL_PREFIX})
if(icupkg)
  file(GLOB icu_data ${prefix}/lib/libicudata.so.*.*)
  foreach(library ${icu_data})
    execute_process(COMMAND ${source_dir}/tools/package/icu_data ${library} ${library}
                    COMMAND_ERROR_IS_FATAL ANY)
  endforeach()
endif()
execute_process(COMMAND ${source_dir}/tools/version OUTPUT_VARIABLE version
                OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND python3 ${source_dir}/tools/package/sbom.py ${prefix} ${version}
                COMMAND_ERROR_IS_FATAL ANY)
