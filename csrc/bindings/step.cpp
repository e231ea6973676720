#include "bindings/step.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <exception>
#include <optional>
#include <utility>
#include <vector>

#include "base/error.h"
#include "bindings/bindings.h"
#include "bindings/input_rows.h"
#include "bindings/sampler.h"
#include "sequence/draft.h"
#include "sequence/stepper.h"

namespace py = pybind11;

namespace qwen35 {
namespace {

using Rows = py::array_t<float>;

Output to_output(const char* name, const std::string& rows) {
  if (rows == "none") return Output::kNone;
  if (rows == "last") return Output::kLast;
  if (rows == "all") return Output::kAll;
  throw InputError(std::string(name) + " is \"" + rows + "\", expected none, last or all");
}

struct Request {
  std::shared_ptr<Sequence> sequence;
  std::vector<Token> tokens;
  std::vector<InputRows> inputs;
  Output logits;
  Output hidden;
  std::shared_ptr<SharedSampler> sampler;
  std::optional<std::size_t> logprobs;
  std::size_t uncertain;
};

std::shared_ptr<Request> make_request(std::shared_ptr<Sequence> sequence, const py::object& tokens,
                                      const py::iterable& inputs, const std::string& logits, const std::string& hidden,
                                      std::shared_ptr<SharedSampler> sampler, const std::optional<py::int_>& logprobs,
                                      const py::int_& uncertain) {
  if (logprobs && sampler == nullptr) throw InputError("logprobs are of a drawn token; give a sampler with them");
  return std::make_shared<Request>(Request{std::move(sequence), to_tokens(tokens), to_inputs(inputs),
                                           to_output("logits", logits), to_output("hidden", hidden), std::move(sampler),
                                           to_logprobs(logprobs), to_count("uncertain", uncertain, 0)});
}

// A request and the arrays its rows go to, each with room for what one call of at most `rows` tokens gives.
struct Prepared {
  Prepared(const Request& request, std::size_t rows)
      : logits({output_rows(request.logits, std::min(request.tokens.size(), rows)), config(request).vocabulary}),
        hidden({output_rows(request.hidden, std::min(request.tokens.size(), rows)), config(request).hidden}),
        item{.sequence = request.sequence.get(),
             .tokens = request.tokens,
             .inputs = request.inputs,
             .logits = request.logits,
             .hidden = request.hidden,
             .logit_rows = logits.mutable_data(),
             .hidden_rows = hidden.mutable_data(),
             .sampler = request.sampler == nullptr ? nullptr : &request.sampler->sampler,
             .logprobs = request.logprobs,
             .uncertain = request.uncertain} {}

  static const Config& config(const Request& request) { return request.sequence->model().config(); }

  Rows logits;
  Rows hidden;
  StepItem item;
};

// As Python would see it raised.
py::object to_python(const std::exception_ptr& error) {
  if (!error) return py::none();
  try {
    py::cpp_function([&error] { std::rethrow_exception(error); })();
  } catch (py::error_already_set& raised) {
    return raised.value();
  }
  return py::none();
}

py::object first_rows(const Rows& rows, std::size_t n) { return rows[py::slice(0, static_cast<py::ssize_t>(n), 1)]; }

struct Answer {
  std::size_t evaluated;
  bool is_finished;
  std::vector<Sampled> sampled;
  py::object logits;
  py::object hidden;
  py::object error;
};

Answer to_answer(const Prepared& prepared, const StepResult& result) {
  return {result.evaluated,
          result.evaluated == prepared.item.tokens.size(),
          result.sampled,
          first_rows(prepared.logits, result.logit_rows),
          first_rows(prepared.hidden, result.hidden_rows),
          to_python(result.error)};
}

// Holds the samplers of a step; one that another call has ends its item, as a sequence in use does.
class SamplersInUse {
 public:
  std::exception_ptr take(SharedSampler* sampler) {
    if (sampler == nullptr) return nullptr;
    try {
      uses_.emplace_back(*sampler);
    } catch (const InputError&) {
      return std::current_exception();
    }
    return nullptr;
  }

 private:
  std::vector<SamplerUse> uses_;
};

std::size_t to_rows(const Model& model, const char* name, const RowCount& rows) {
  return rows ? to_count(name, *rows, 1) : model.pass_rows();
}

py::list evaluate_requests(const Model& model, const std::vector<Request>& requests, const RowCount& chunk_tokens) {
  const std::size_t chunk = to_rows(model, "chunk_tokens", chunk_tokens);
  std::vector<StepItem> items;
  py::list answers;
  for (const Request& request : requests) {
    Prepared prepared(request, request.tokens.size());
    items.push_back(prepared.item);
    answers.append(std::move(prepared.logits));
  }
  const py::gil_scoped_release release;
  evaluate(items, chunk, check_signals);
  return answers;
}

}  // namespace

void check_signals() {
  const py::gil_scoped_acquire acquire;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

namespace {

std::vector<Answer> answers_of(Model& model, const std::vector<std::shared_ptr<Request>>& requests,
                               std::size_t most_rows) {
  std::vector<Prepared> prepared;
  std::vector<StepResult> results(requests.size());
  std::vector<std::size_t> admitted;
  std::vector<StepItem> step_of;
  SamplersInUse samplers;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    prepared.emplace_back(*requests[i], most_rows);
    results[i].error = samplers.take(requests[i]->sampler.get());
    if (results[i].error) continue;
    admitted.push_back(i);
    step_of.push_back(prepared.back().item);
  }
  {
    const py::gil_scoped_release release;
    std::vector<StepResult> found = step(model, step_of, most_rows);
    for (std::size_t i = 0; i < admitted.size(); ++i) results[admitted[i]] = std::move(found[i]);
  }
  std::vector<Answer> answers;
  for (std::size_t i = 0; i < results.size(); ++i) answers.push_back(to_answer(prepared[i], results[i]));
  return answers;
}

}  // namespace

py::list step_items(Model& model, const py::iterable& items, const RowCount& rows) {
  std::vector<std::shared_ptr<Request>> requests;
  for (const py::handle item : items) requests.push_back(py::cast<std::shared_ptr<Request>>(item));
  py::list answers;
  for (Answer& answer : answers_of(model, requests, to_rows(model, "rows", rows))) answers.append(std::move(answer));
  return answers;
}

py::object step_alone(std::shared_ptr<Sequence> sequence, const py::object& tokens, const py::iterable& inputs,
                      const std::string& logits, const std::string& hidden, std::shared_ptr<SharedSampler> sampler,
                      const std::optional<py::int_>& logprobs, const py::int_& uncertain, const RowCount& rows) {
  const auto request =
      make_request(std::move(sequence), tokens, inputs, logits, hidden, std::move(sampler), logprobs, uncertain);
  Model& model = request->sequence->model();
  Answer answer = std::move(answers_of(model, {request}, to_rows(model, "rows", rows)).front());
  if (!answer.error.is_none()) {
    PyErr_SetObject(py::type::handle_of(answer.error).ptr(), answer.error.ptr());
    throw py::error_already_set();
  }
  return py::cast(std::move(answer));
}

py::list draft_items(Model& model, const py::iterable& items) {
  std::vector<std::shared_ptr<Sequence>> sequences;
  std::vector<std::vector<std::uint32_t>> masks;
  std::vector<DraftItem> asked;
  for (const py::handle entry : items) {
    const auto item = py::cast<py::tuple>(entry);
    if (item.size() < 3 || item.size() > 5) {
      throw InputError("an item to draft for is (sequence, token, most), then perhaps a mask, then perhaps least");
    }
    sequences.push_back(py::cast<std::shared_ptr<Sequence>>(item[0]));
    masks.push_back(item.size() > 3 ? to_mask(item[3]) : std::vector<std::uint32_t>());
    asked.push_back({sequences.back().get(), to_tokens(py::make_tuple(item[1])).front(),
                     to_count("most", py::cast<py::int_>(item[2]), 0),
                     item.size() > 4 ? py::cast<float>(item[4]) : 0.0F});
  }
  for (std::size_t i = 0; i < asked.size(); ++i) asked[i].mask = masks[i];
  std::vector<std::vector<Draft>> found;
  {
    const py::gil_scoped_release release;
    found = draft(model, asked);
  }
  py::list answers;
  for (const std::vector<Draft>& drafts : found) {
    py::list answer;
    for (const Draft& draft : drafts) answer.append(py::make_tuple(draft.token, draft.probability));
    answers.append(std::move(answer));
  }
  return answers;
}

py::list forward_batch(Model& model, const py::iterable& batch, const RowCount& chunk_tokens) {
  std::vector<Request> requests;
  for (const py::handle entry : batch) {
    const auto item = py::cast<py::tuple>(entry);
    if (item.size() < 3 || item.size() > 5) {
      throw InputError("an item of a batch is (sequence, tokens, logits), then perhaps inputs, then perhaps uncertain");
    }
    auto sequence = py::cast<std::shared_ptr<Sequence>>(item[0]);
    if (&sequence->model() != &model) {
      throw InputError("a sequence of the batch belongs to another model; read it with that model");
    }
    auto inputs = item.size() > 3 ? to_inputs(item[3]) : std::vector<InputRows>();
    const std::size_t uncertain = item.size() > 4 ? to_count("uncertain", py::cast<py::int_>(item[4]), 0) : 0;
    requests.push_back({std::move(sequence), to_tokens(item[1]), std::move(inputs),
                        to_output("logits", py::cast<std::string>(item[2])), Output::kNone, nullptr, std::nullopt,
                        uncertain});
  }
  return evaluate_requests(model, requests, chunk_tokens);
}

py::object append(std::shared_ptr<Sequence> sequence, const py::object& tokens, const py::iterable& inputs,
                  const std::string& logits, const py::int_& uncertain, const RowCount& chunk_tokens) {
  const Request request{std::move(sequence), to_tokens(tokens), to_inputs(inputs), to_output("logits", logits),
                        Output::kNone,       nullptr,           std::nullopt,      to_count("uncertain", uncertain, 0)};
  return evaluate_requests(request.sequence->model(), {request}, chunk_tokens)[0];
}

void bind_step(py::module_& module) {
  py::class_<Request, std::shared_ptr<Request>>(module, "StepItem", py::is_final())
      .def(py::init(&make_request), py::arg("sequence"), py::arg("tokens"), py::kw_only(),
           py::arg("inputs") = py::tuple(), py::arg("logits") = "none", py::arg("hidden") = "none",
           py::arg("sampler") = py::none(), py::arg("logprobs") = py::none(), py::arg("uncertain") = 0)
      .def_readonly("sequence", &Request::sequence)
      .def_property_readonly("tokens", [](const Request& r) { return to_array(r.tokens); });
  py::class_<Answer>(module, "StepResult", py::is_final())
      .def_readonly("evaluated", &Answer::evaluated)
      .def_readonly("is_finished", &Answer::is_finished)
      .def_readonly("sampled", &Answer::sampled)
      .def_readonly("logits", &Answer::logits)
      .def_readonly("hidden", &Answer::hidden)
      .def_readonly("error", &Answer::error);
}

}  // namespace qwen35
