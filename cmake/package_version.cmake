# The version is asked of the program when it is packed: the build may be newer than its configuration.
execute_process(COMMAND ${CPACK_MEA_PROGRAM} --version OUTPUT_VARIABLE CPACK_PACKAGE_VERSION
                OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
