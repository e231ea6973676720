// Every kernel by name: the host looks its function up, and tests/simt its body.
#pragma once

#define QWEN35_CUDA_KERNELS(NAME) NAME(fill)
