// All device code, one translation unit.
#include "devices/cuda/fill.cuh"
