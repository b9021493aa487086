// libFuzzer as a library: it comes with the toolchain's -sanitize=fuzzer.
#ifndef GAVELCAST_CLIBFUZZER_H
#define GAVELCAST_CLIBFUZZER_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*one_input)(const uint8_t *bytes, size_t count));

#endif
