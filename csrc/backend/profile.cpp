#include "backend/profile.h"

namespace qwen35 {

Profile::Profile() noexcept
    : times_{{{"embed"},
              {"rms_norm"},
              {"matmul"},
              {"matmul_add"},
              {"swiglu"},
              {"head"},
              {"gated_delta_net"},
              {"norm_rope_append"},
              {"attend"},
              {"route"},
              {"moe_gather"},
              {"moe_combine"},
              {"take_rows"},
              {"previous_rows"},
              {"kept_rows"},
              {"top_k"},
              {"waiting"}}} {}

void Profile::reset() noexcept {
  for (OperationTime& entry : times_) entry = {entry.name};
}

void Profile::add(Operation operation, std::chrono::nanoseconds time, std::chrono::nanoseconds waiting) noexcept {
  const auto count = [this](Operation of, std::chrono::nanoseconds more) {
    OperationTime& entry = times_[static_cast<std::size_t>(of)];
    ++entry.calls;
    entry.time += more;
  };
  count(operation, time - waiting);
  count(Operation::kWaiting, waiting);
}

}  // namespace qwen35
