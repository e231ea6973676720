# Everything a contributor does, by name. `make check` is what a change must pass.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# One build for `build`, `types`, `warnings` and `wheel`, which therefore compile a file once.
STRICT := -Ccmake.define.QWEN35_WERROR=ON -Ccmake.define.QWEN35_NATIVE_TESTS=ON
CHECKED := -Cbuild-dir=build/core $(STRICT)
has = $(shell command -v $(1))
CXX_FILES = $(shell git ls-files --cached --others --exclude-standard '*.cpp' '*.h' '*.cu' '*.cuh' '*.metal' '*.mm')

.PHONY: setup build test check format bench lint types warnings isas simt bounds races clients cuda cuda-check gate arm older weigh lowest sanitize wheel clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --upgrade pip

$(STAMP): $(BIN)/python pyproject.toml CMakeLists.txt
	$(BIN)/pip install -q scikit-build-core pybind11 cmake ninja
	$(BIN)/pip install -q --no-build-isolation $(CHECKED) -e '.[check]'
	touch $@

setup: $(STAMP)

# BUILT=1: it is there already, as for the side lanes of `check`, which must not build at the same time.
build: setup
	$(if $(BUILT),,$(BIN)/pip install -q --no-build-isolation --no-deps $(CHECKED) -e .)

test: build
	$(BIN)/python -m pytest

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/clang-format -i $(CXX_FILES)

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/clang-format --dry-run -Werror $(CXX_FILES)

# What ships is what is typed: the wheel's folder mapping is invisible to mypy in the source tree.
types: setup
	rm -rf build/site
	$(BIN)/pip install -q --no-build-isolation --no-deps $(CHECKED) --target build/site .
	MYPYPATH=build/site $(BIN)/mypy -p qwen35_local -p models.demo.training
	MYPYPATH=build/site PYTHONPATH=build/site $(BIN)/python -m mypy.stubtest qwen35_local._core \
	  --allowlist tests/model/stubtest_allowlist.txt

# `build` treats warnings as errors and builds tests/native, which this runs.
warnings: build
	build/core/isa_twins

# Whole models on each instruction set but the fastest, which `test` uses; it also tests every kernel on each of them.
# Samplers, cancelling and a failing device are the same on all.
ISA_TESTS := tests/model/test_logits.py tests/sequence --ignore-glob='*sampler*' --ignore-glob='*cancel*' \
  --ignore-glob='*failing*'
isas: build
	for isa in $$($(BIN)/python -c 'from qwen35_local import _core; print(*_core.available_isas()[:-1])'); do \
	  echo "== QWEN35_ISA=$$isa"; QWEN35_ISA=$$isa $(BIN)/python -m pytest $(ISA_TESTS) || exit 1; \
	done

# The CUDA backend on the driver of tests/simt, which runs device code on this processor and is device "auto" here: every
# kernel, those of all kinds in other orders of blocks and threads too, whole models, a conversation; and what a machine
# with a card is checked with, as far as that is small.
SEEDED_TESTS := tests/kernels/test_rows.py tests/kernels/test_route.py tests/kernels/test_norm_rope_append.py \
  tests/kernels/test_top_k.py
SIMT_TESTS := tests/devices tests/model/test_logits.py tests/sequence/test_paging.py \
  tests/sequence/test_draft.py tests/sequence/test_step.py tests/sequence/test_input_rows.py
simt: build
	export QWEN35_SIMT=$(CURDIR)/build/core/simt/libcuda.so.1; \
	$(BIN)/python -m pytest tests/kernels -k cuda && \
	for seed in 1 2 3; do SIMT_SEED=$$seed $(BIN)/python -m pytest $(SEEDED_TESTS) -k cuda || exit 1; done && \
	$(BIN)/python -m pytest $(SIMT_TESTS) && \
	LD_LIBRARY_PATH=$(CURDIR)/build/core/simt $(BIN)/python tests/cuda_check --quick --results build/simt-check

# The kernels with device code under AddressSanitizer and under ThreadSanitizer; the core itself is not.
SIMT_KERNELS := tests/kernels -k cuda
define sanitized_simt
$(BIN)/cmake -G Ninja -S . -B build/simt-$(1) -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja -DQWEN35_BINDINGS=OFF \
  -DQWEN35_NATIVE_TESTS=ON -DSIMT_SANITIZER=$(1)
$(BIN)/cmake --build build/simt-$(1) --target simt
LD_PRELOAD="$$(gcc -print-file-name=$(2)) $$(gcc -print-file-name=libstdc++.so)" QWEN35_SANITIZED=1 \
  ASAN_OPTIONS=detect_leaks=0 TSAN_OPTIONS=ignore_noninstrumented_modules=1 \
  LD_LIBRARY_PATH=$(CURDIR)/build/simt-$(1)/simt $(BIN)/python -m pytest -s $(SIMT_KERNELS)
endef
bounds: build
	$(call sanitized_simt,address,libasan.so)
races: build
	$(call sanitized_simt,thread,libtsan.so)
	$(BIN)/python -m pytest -m planted tests/simt

# The server and other people's clients: Python's, of the extra of this name, which `check` has; Node's where that is, in
# a folder of their own. Without a network these are left out, and their tests say so.
NODE_CLIENTS := $(if $(and $(call has,node),$(call has,npm)),build/node/.installed)
build/node/.installed: tests/server/node/package.json tests/server/node/package-lock.json
	mkdir -p $(@D)
	rm -f $@
	cp $^ $(@D)
	npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund --loglevel=error && touch $@ || \
	  echo "npm could not install the clients for Node" >&2

clients: build $(NODE_CLIENTS)
	$(BIN)/python -m pytest -m clients tests/server

# NVIDIA's compiler from PyPI, all of one release: each part alone asks for the newest of the others.
CUDA_PACKAGES := nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.96 \
  nvidia-cuda-cccl==13.0.85 nvidia-cuda-cuobjdump==13.2.51 nvidia-cuda-nvdisasm==13.2.51 \
  nvidia-cuda-sanitizer-api==13.0.85
CUDA_HOME = $(shell $(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/nvidia/cu13
$(VENV)/.cuda: Makefile | $(BIN)/python
	$(BIN)/pip install -q scikit-build-core pybind11 cmake ninja $(CUDA_PACKAGES)
	touch $@

# An editable install with the kernels for cards; `make build` makes one without again.
cuda: $(VENV)/.cuda
	CUDA_HOME=$(CUDA_HOME) $(BIN)/pip install -q --no-build-isolation -Cbuild-dir=build/cuda $(STRICT) \
	  -Ccmake.define.QWEN35_CUDA=ON -e '.[check]'

# What the compiler made of each kernel, against docs/gpu_kernels.tsv. ARGS=--update writes that.
gate: $(VENV)/.cuda
	CUDA_HOME=$(CUDA_HOME) $(BIN)/cmake -G Ninja -S . -B build/gate -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja \
	  -DQWEN35_BINDINGS=OFF -DQWEN35_CUDA=ON > /dev/null
	@$(BIN)/cmake --build build/gate --target cuda_image > build/gate/compiler.log 2>&1 || \
	  { cat build/gate/compiler.log >&2; exit 1; }
	$(BIN)/python tests/cuda_gate build/gate/cuda $(CUDA_HOME)/bin $(ARGS)

# The one command for a machine with a card; what the build takes is among its minutes.
cuda-check: BEGAN := $(shell date +%s)
cuda-check: cuda
	PATH="$(CUDA_HOME)/bin:$$PATH" $(BIN)/python tests/cuda_check --since $(BEGAN) $(ARGS)

# The core for 64-bit Arm, warnings as errors, and every kernel against its scalar twin on an emulated processor.
arm:
	@for tool in aarch64-linux-gnu-g++ qemu-aarch64 cmake; do command -v $$tool > /dev/null || \
	  { echo "make arm needs $$tool (Debian: g++-aarch64-linux-gnu, qemu-user, cmake)" >&2; exit 2; }; done
	cmake -S . -B build/arm --toolchain cmake/aarch64-linux-gnu.cmake -DQWEN35_BINDINGS=OFF -DQWEN35_WERROR=ON \
	  -DQWEN35_NATIVE_TESTS=ON
	cmake --build build/arm --parallel $$(getconf _NPROCESSORS_ONLN)
	qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu max build/arm/isa_twins neon neon_i8mm

# The plan of memory against what processes really hold. What else runs on the machine can disturb it.
weigh: build
	$(BIN)/python -m pytest -m weighs

# No code that an older processor lacks is reached on it, not even on the way to the kernels that are chosen.
older: build
	@command -v qemu-x86_64 > /dev/null || { echo "make older needs qemu-x86_64 (Debian: qemu-user)" >&2; exit 2; }
	qemu-x86_64 -cpu Nehalem build/core/isa_twins reference
	qemu-x86_64 -cpu Haswell build/core/isa_twins avx2

# Every dependency at the lowest version that pyproject.toml declares.
lowest: setup
	rm -rf build/lowest
	$(PYTHON) -m venv build/lowest
	$(PYTHON) -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
	  print(*(d.replace('>=', '==') for d in project['dependencies'] + project['optional-dependencies']['test']), sep='\n')" \
	  > build/lowest/requirements.txt
	build/lowest/bin/pip install -q -r build/lowest/requirements.txt
	$(BIN)/pip wheel -q --no-build-isolation --no-deps -w build/lowest .
	build/lowest/bin/pip install -q --no-deps build/lowest/*.whl
	build/lowest/bin/python -m pytest tests/text tests/chat tests/cli tests/hub tests/quantize tests/engine

# The whole core under AddressSanitizer and UBSan, driven by the same tests. Not with the interpreter of $(VENV), in which
# the editable install comes before any path.
SANITIZER_FLAGS := -O1 -g1 -DNDEBUG -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
sanitize: setup
	rm -rf build/asan-site
	$(BIN)/pip install -q --no-build-isolation --no-deps --target build/asan-site \
	  -Ccmake.build-type=Debug -Cbuild-dir=build/asan -Ccmake.define.CMAKE_CXX_FLAGS_DEBUG="$(SANITIZER_FLAGS)" .
	export LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libstdc++.so)" \
	  ASAN_OPTIONS=detect_leaks=0 QWEN35_SANITIZED=1 \
	  PYTHONPATH=$(CURDIR)/build/asan-site:$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
	$(PYTHON) -c 'from qwen35_local import _core; assert "asan-site" in _core.__file__, _core.__file__' && \
	$(PYTHON) -m pytest tests/tensor tests/gguf tests/kernels tests/model tests/sequence

wheel: setup
	rm -rf dist build/clean
	$(BIN)/python -m build --wheel --no-isolation $(CHECKED) --outdir dist .
	@! $(PYTHON) -m zipfile -l dist/*.whl | grep -E 'demo/(training|checkpoint)/' || \
	  { echo "the wheel holds what only a checkout needs" >&2; exit 2; }
	$(PYTHON) -m venv build/clean
	build/clean/bin/pip install -q dist/*.whl
	cd build && clean/bin/qwen35 --help > /dev/null && clean/bin/qwen35 chat -p 'What is the capital of France?' --temperature 0

# What a change must pass. `.ci/run` has tested as README says and leaves SUITE and GATE out; older processors and Arm are emulated
# where the tools for it are, CUDA on 64-bit x86 under Linux, and its kernels compiled where nvcc is.
SUITE := test
EMULATED := $(if $(call has,qemu-x86_64),older) \
  $(if $(and $(call has,aarch64-linux-gnu-g++),$(call has,qemu-aarch64)),arm)
SIMT := $(if $(filter Linux_x86_64,$(shell uname -s)_$(shell uname -m)),simt)
GATE := $(if $(call has,nvcc),gate)
check:
	@.ci/check "lint types warnings $(SUITE) wheel build" "$(EMULATED) weigh sanitize $(GATE)" "clients $(SIMT) isas"

bench: build
	$(BIN)/qwen35 bench

clean:
	rm -rf build dist $(VENV)
