# A room is one folder, one library, and may link only rooms on floors below it.
# Sources are listed by pattern: a new file in the folder belongs to the room.
function(tenfold_flags target)
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR})
  target_compile_definitions(${target} PRIVATE _GNU_SOURCE)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes
    -Wno-sign-conversion $<$<C_COMPILER_ID:GNU>:-Wno-format-truncation> -ffp-contract=off -fno-math-errno -fno-trapping-math $<$<CONFIG:Release>:-O3> $<$<BOOL:${TENFOLD_WERROR}>:-Werror>)
  if(TENFOLD_FAULTS)
    target_compile_definitions(${target} PRIVATE TENFOLD_FAULTS=1)
  endif()
  if(TENFOLD_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${TENFOLD_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
    target_link_options(${target} PRIVATE -fsanitize=${TENFOLD_SANITIZE})
  endif()
endfunction()

function(tenfold_room name)
  cmake_parse_arguments(ROOM "" "" "PUBLIC;PRIVATE;EXTRA" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.c)
  add_library(${name} STATIC ${sources} ${ROOM_EXTRA})
  tenfold_flags(${name})
  target_link_libraries(${name} PUBLIC ${ROOM_PUBLIC} PRIVATE ${ROOM_PRIVATE})
endfunction()
