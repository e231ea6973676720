// Whether the arguments of an operation fit one another and the device: every operation of a Backend begins with its
// check here, so that a device's own code can take them as given. Throws InputError that names the operation, what was
// given and what was expected. Contents of device memory, such as the numbers of experts, cannot be seen from here.
#pragma once

#include "backend/backend.h"

namespace qwen35::check {

// The rows of every segment lie in the batch, one segment behind the other, and its pages in the page table.
void step(const Step& step);

void layout(const char* operation, const Weight& w, const char* expected);
void heads(const char* operation, const AttentionShape& shape, const DeviceLimits& limits);
void embed(Tensor out, const Weight& table, const Step& step);
void rms_norm(Tensor out, Tensor x);
void matmul(const char* operation, Tensor out, Tensor x, const Weight& w);
void gated_delta_net(Tensor out, Tensor qkv, Tensor z, Tensor a, Tensor b, const DeltaShape& shape, const Step& step,
                     const DeviceLimits& limits);
void norm_rope_append(Tensor q_gate, Tensor k, Tensor v, const Rope& rope, const AttentionShape& shape,
                      const Step& step, const DeviceLimits& limits);
void attend(Tensor out, Tensor q_gate, const AttentionShape& shape, const Step& step, const DeviceLimits& limits);
void route(const Routes& out, Tensor logits, Tensor h, const RouterWeights& weights);
void moe_gather(const ExpertActs& out, Tensor h, const ExpertWeights& experts, const Routes& routes);
void moe_combine(Tensor x, const ExpertActs& h, const ExpertWeights& experts, std::uint32_t top_k);
void take_rows(Tensor out, Tensor x, const Step& step);
void previous_rows(Tensor out, Tensor x, const Step& step);
void kept_rows(Tensor out, const Step& step);
void top_k(std::size_t k, Tensor logits, const LogitEdits& edits);

}  // namespace qwen35::check
