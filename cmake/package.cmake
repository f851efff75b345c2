# A Debian package of the program: `tools/build_deb`. It depends on Debian's libraries instead of
# bringing them. What is in it besides the program: tools/package/debian.
set(debian ${PROJECT_SOURCE_DIR}/tools/package/debian)
install(FILES ${debian}/mea.service DESTINATION lib/systemd/system COMPONENT service EXCLUDE_FROM_ALL)
install(FILES ${debian}/default RENAME mea DESTINATION /etc/default COMPONENT service EXCLUDE_FROM_ALL)
install(FILES ${debian}/copyright DESTINATION share/doc/mea COMPONENT service EXCLUDE_FROM_ALL)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_CONTACT "the authors of mea <mea@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "LLM inference server with a compressed KV cache")
set(CPACK_PACKAGE_DESCRIPTION "Serves checkpoints in Hugging Face's format over gRPC and OpenAI's HTTP API.
Its KV cache stores fewer heads than attention sees.")
set(CPACK_SET_DESTDIR ON)  # for /etc
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_ALL program documents models service)
set(CPACK_COMPONENTS_GROUPING ALL_COMPONENTS_IN_ONE)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
    ${debian}/conffiles ${debian}/postinst ${debian}/prerm ${debian}/postrm)
set(CPACK_PROJECT_CONFIG_FILE ${PROJECT_SOURCE_DIR}/cmake/package_version.cmake)
set(CPACK_PRE_BUILD_SCRIPTS ${PROJECT_SOURCE_DIR}/cmake/package_files.cmake)
set(CPACK_MEA_PROGRAM ${PROJECT_BINARY_DIR}/server/mea)
include(CPack)
