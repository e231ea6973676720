// Every kernel, one compilation. On the host (tests/simt) the same text is C++.
#include "devices/cuda/fill.cuh"
#include "devices/cuda/gated_delta_net.cuh"
#include "devices/cuda/matmul.cuh"
#include "devices/cuda/moe.cuh"
#include "devices/cuda/rms_norm.cuh"
#include "devices/cuda/route.cuh"
#include "devices/cuda/rows.cuh"
