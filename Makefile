# SPDX-License-Identifier: Apache-2.0
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
DATA := $(or $(XDG_DATA_HOME),$(HOME)/.local/share)/setun/abi1
BUILD := native/build/release
# Shows what ran and what was skipped; the whole output is in build/.
SHOW := { grep -E '^(ok|FAIL|panic|\?|---|    --- (FAIL|SKIP)|.*(_test\.go|conform\.go):[0-9]+:|[0-9]+ cases)' || test $$? -eq 1; }

.PHONY: usage setup mpi native run test lint test-native test-go test-cuda gpu-bundle test-pure test-race test-variants test-asan test-ubsan test-tsan test-arm64 test-windows test-long fuzz fuzz-native bench clean soak chaos
usage:
	@echo "make run      set up, build, calibrate, take the tour"
	@echo "make test     everything: lint, C tests, Go tests with and without native code, race detector, every ISA level"
	@echo "make native   build the native libraries and install them to $(DATA)"
	@echo "make bench    measure the call path, compare with other software (build/bench/)"
	@echo "make lint | test-native | test-go | test-cuda | test-pure | test-race | test-variants   parts of make test"
	@echo "make gpu-bundle   what a machine with a GPU needs to test and measure the CUDA library: build/gpu-bundle/gpu.sh"
	@echo "make fuzz FUZZTIME=1m   each op against pure Go on drawn shapes, options and values, and each parser, for so long each; FUZZIN=./backends/conform: the ops alone"
	@echo "make soak | chaos DURATION=10m   load on all kernels, every result checked; the latter with a fault every second"
	@echo "make test-long DURATION=1m FUZZTIME=10s   what takes longer than make test: soak, chaos, every fuzz target for a while, 10,000 runtimes, a million calls, 100,000 callers, the largest arrays, the sanitizers"
	@echo "make test-arm64 | test-windows   libraries and Go tests of the other platform, under qemu or wine, some minutes"
	@echo "make test-asan | test-ubsan | test-tsan   the native libraries under a sanitizer, in the C and the Go tests, 10 to 60 minutes each"
	@echo "make fuzz-native FUZZTIME=10m   the native kernels on calls that libFuzzer draws (clang), each against the scalar one"

setup:
	@native/setup.sh

mpi:
	@native/setup.sh --mpi

# The libraries alone, unless tests or benches want what else is built.
TARGET = libraries
test-native test-go test-cuda bench: TARGET = all
native: setup
	@umask 022; if native/setup.sh --check; then \
	  cmake --preset release -DSETUN_INSTALL_DIR="$(DATA)" >build/cmake.log && cmake --build --preset release --target $(TARGET) -j 2 >>build/cmake.log || { cat build/cmake.log; exit 1; }; \
	  cmake --install $(BUILD) --component libraries >>build/cmake.log && chmod go-w "$(DATA)" "$(DATA)/.." && ls "$(DATA)"/*setun_simd_c.* "$(DATA)"/*setun_cpp.* >/dev/null && echo "native libraries installed to $(DATA)"; \
	fi

run: native
	@go build -o build/calibrate ./calibrate
	@build/calibrate run --quick
	@go run ./examples/tour

test: lint test-native test-go test-cuda test-pure test-race test-variants
	@echo "make test: all parts passed"

lint: | build
	@echo "== lint"
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "gofmt: the files above are not formatted"; exit 1; }
	go vet ./...
	go build -o build/staticcheck honnef.co/go/tools/cmd/staticcheck
	build/staticcheck ./...
	cd prometheus && go vet ./... && ../build/staticcheck ./...
	@format=$$(command -v clang-format-14 || command -v clang-format || echo false); if $$format --version 2>/dev/null | grep -q "version 14"; then $$format --dry-run --Werror native/*/*.[ch] native/*/*.cpp native/cuda/*/*.[ch]* native/include/setun/*.h; else echo "SKIP: clang-format 14 is not installed"; fi

test-native: native
	@echo "== C tests"
	@if native/setup.sh --check; then ctest --preset release --no-tests=error | tee build/ctest.log; native/check_symbols.sh $(BUILD)/libsetun_simd_c.so; native/check_symbols.sh $(BUILD)/libsetun_cpp.so threads; if [ "$$(uname)" = Linux ]; then native/check_symbols.sh $(BUILD)/libsetun_cuda.so driver; fi; native/check_flags.sh $(BUILD); else echo "SKIP: C tests need a compiler and cmake"; fi

# Tests with the libraries of this checkout, which must be there when they can be built: as they are installed, where nobody else can write (docs/loading.md), wherever the checkout lies.
test-go test-cuda test-race test-variants test-long fuzz soak chaos: export SETUN_TEST_LIBRARIES ?= $(DATA)
test-go test-cuda test-race test-variants test-long fuzz soak chaos: export SETUN_TEST_NATIVE ?= $(shell native/setup.sh --check && echo require)
# What tests remember of libraries between processes is no matter of the user's own programs. Who makes the folder first gives it a mode that is believed.
test-go test-cuda test-pure test-race test-variants test-arm64 test-long fuzz soak chaos: export SETUN_STATE = $(CURDIR)/build/state
test-go: native mpi
	@echo "== Go tests with native libraries"
	@go test -count=1 -timeout 5m -v ./... 2>&1 | tee build/go.log | $(SHOW)
	@cd prometheus && go test -count=1 -timeout 5m -v ./... 2>&1 | tee ../build/prometheus.log | $(SHOW)

# The CUDA library without a GPU: its kernels on the processor, behind a stand-in for the driver.
test-cuda: native
	@echo "== CUDA on the stand-in driver"
	@native/cuda/ptx.sh --check
	@if native/setup.sh --check && [ "$$(uname)" = Linux ]; then \
	  SETUN_CUDA_DRIVER=$(CURDIR)/$(BUILD)/libcuda_fake.so SETUN_TEST_CUDA=require go test -count=1 -timeout 10m -v ./backends/cuda 2>&1 | tee build/cuda.log | $(SHOW); \
  SETUN_CUDA_DRIVER=$(CURDIR)/$(BUILD)/libcuda_fake.so SETUN_TEST_CUDA=require go test -count=1 -timeout 10m -v -run 'Mapped|OnCUDA' ./runtime ./train/... ./examples/train 2>&1 | tee build/mapped.log | $(SHOW); \
	else echo "SKIP: the CUDA library is built on Linux alone, by a compiler and cmake"; fi

test-pure: | build
	@echo "== Go tests in pure Go"
	@SETUN_TEST_LIBRARIES=/nowhere go test -count=1 -timeout 5m -v ./... 2>&1 | tee build/pure.log | $(SHOW)

test-race: native mpi
	@echo "== race detector"
	@if native/setup.sh --check; then CGO_ENABLED=1 go test -count=1 -timeout 10m -race -short ./... 2>&1 | tee build/race.log | $(SHOW); else echo "SKIP: the race detector needs a C compiler"; fi

# The same bits however the Go code is compiled, and each level forced through the whole runtime, but for tests of processes, files and learning, which are the same on each.
SAME = ^TestF[0-9]|Probe|Process|Kill|Quarantine|Verdict|BLAS|Copied|Damaged|Profile|Sav|Learn|GoodLibrary|TooManyKernels|WrongFor|Unnoted
test-variants: native
	@echo "== GOAMD64=v3, GOEXPERIMENT=simd, forced levels"
	@case "$$(go env GOARCH)" in amd64) \
	  export SETUN_TEST_LIBRARIES=/nowhere SETUN_TEST_NATIVE=; \
	  if grep -qw fma /proc/cpuinfo 2>/dev/null; then GOAMD64=v3 go test -count=1 -timeout 5m ./internal/... ./backends/cpu ./backends/conform | $(SHOW); else echo "SKIP: GOAMD64=v3 needs FMA"; fi; \
	  GOEXPERIMENT=simd go vet ./backends/cpu && GOEXPERIMENT=simd go test -count=1 -timeout 5m ./backends/cpu ./backends/conform | $(SHOW);; \
	esac
	@for isa in avx512 avx2 sse42 neon scalar; do echo "SETUN_FORCE_ISA=$$isa"; for some in "-skip $(SAME) ./runtime" ./examples/...; do SETUN_FORCE_ISA=$$isa go test -count=1 -timeout 5m -short -v $$some 2>&1 | tee build/$$isa.log | sed '/--- PASS/d' | $(SHOW); done; done
	@for os in linux/arm64 linux/386 darwin/arm64 windows/amd64; do echo "vet $$os"; CGO_ENABLED=0 GOOS=$${os%/*} GOARCH=$${os#*/} go vet ./...; done

bench: native
	go test -run '^$$' -bench Decide -benchmem ./dispatch
	go test -run '^$$' -bench Call -benchmem ./runtime ./internal/plugin
	go test -run '^$$' -bench . ./backends/cpu
	@if [ "$$(go env GOARCH)" = amd64 ]; then echo "with GOEXPERIMENT=simd:"; GOEXPERIMENT=simd go test -run '^$$' -bench Assign ./backends/cpu; fi
	go run ./bench

# Every fuzz target of the repository, each for so long (500000x: so many executions); FUZZIN names the folders. Inputs are hardly made smaller: one whose coverage is never the same twice would take a minute of that, and no execution counts meanwhile.
FUZZTIME ?= 1m
FUZZIN ?= $(sort $(patsubst %/,%,$(dir $(shell grep -rlE --include='*_test.go' --exclude-dir=build '^func Fuzz[A-Za-z0-9]*\(f \*testing\.F\)' .))))
fuzz: native
	@for d in $(FUZZIN); do for f in $$(cat $$d/*_test.go | sed -n 's/^func \(Fuzz[A-Za-z0-9]*\)(f \*testing\.F).*/\1/p'); do echo "== $$d $$f"; go test ./$$d -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x; done; done

# Load on all kernels for so long, with every result held against pure Go: alone, and with a fault every second; and a host that is killed again and again.
DURATION ?= 10m
soak chaos: native
	@SETUN_SOAK=$(DURATION) go test ./internal/soak -run '$(if $(filter soak,$@),TestSoak,TestChaos|TestKilled)' -count=1 -timeout 0 -v

# All that takes longer than seconds and is therefore no part of `make test`.
test-long: DURATION = 1m
test-long: FUZZTIME = 10s
test-long: native soak chaos fuzz test-asan test-ubsan test-tsan
	@SETUN_TEST_LONG=1 go test -count=1 -timeout 60m -v ./internal/soak -run 'OpenAndClose10000|MillionCalls|HundredThousandWaiters|LargeCall' 2>&1 | tee build/long.log | $(SHOW)

# The libraries under a sanitizer, in the C tests and in the Go tests; many minutes each, so not part of `make test`.
test-asan: SANITIZE = address
test-ubsan: SANITIZE = undefined
test-tsan: SANITIZE = thread
test-asan test-ubsan test-tsan: | build
	@native/sanitize.sh $(SANITIZE) build/$@

# Kernels against the reference on calls that libFuzzer draws, for so long, with the address sanitizer and that of undefined behaviour.
fuzz-native: | build
	@native/fuzz.sh $(FUZZTIME) build/$@

# Another platform: its libraries, their C tests, the Go tests that need nothing else of the system, and the digest. Predictions of times are no part of what is the same
# everywhere, so ./dispatch is not among them.
NEEDS = { for tool in $(1); do command -v $$tool >/dev/null || { echo "$@ needs $$tool ($(2))"; exit 1; }; done; }
PORTABLE = ./internal/admit ./internal/canon ./internal/fenv ./backends/conform ./backends/cpu ./backends/simd_c ./backends/cpp ./quant ./runtime

test-arm64: QEMU = qemu-aarch64 -L /usr/aarch64-linux-gnu
test-arm64: export CC = aarch64-linux-gnu-gcc
test-arm64: export SETUN_TEST_LIBRARIES = $(CURDIR)/native/build/arm64
test-arm64: | build
	@$(call NEEDS,cmake aarch64-linux-gnu-gcc aarch64-linux-gnu-g++ qemu-aarch64,Debian: gcc-aarch64-linux-gnu g++-aarch64-linux-gnu qemu-user)
	@cmake --preset arm64 >build/arm64.log && cmake --build --preset arm64 >>build/arm64.log || { cat build/arm64.log; exit 1; }
	@OBJDUMP=aarch64-linux-gnu-objdump native/check_flags.sh native/build/arm64
	@for library in simd_c cpp; do $(QEMU) native/build/arm64/test_$$library | tail -1; done
	@echo "not of ./runtime: tests of processes ($(SAME)); under qemu no program starts itself again, and so libraries are not probed"
	@for some in "$(filter-out ./runtime,$(PORTABLE))" "-skip $(SAME) ./runtime"; do \
	  GOARCH=arm64 CGO_ENABLED=0 SETUN_TEST_NATIVE=require SETUN_PROBE=off go test -count=1 -short -timeout 30m -exec "$(QEMU)" -v $$some 2>&1 | tee build/arm64-go.log | $(SHOW); done
	@GOARCH=arm64 CGO_ENABLED=0 go build -o build/calibrate-arm64 ./calibrate
	@SETUN_FORCE_ISA=neon SETUN_BACKEND_PATH=$(SETUN_TEST_LIBRARIES) $(QEMU) build/calibrate-arm64 verify 2>build/verify.log | tail -2

# Older versions of wine lack a library that Go needs, and a way to delete files: one is built here, and tests that clean a folder up are left out.
test-windows: export WINEDEBUG = -all
test-windows: export WINEPREFIX = $(CURDIR)/build/wine
test-windows: export SETUN_TEST_LIBRARIES = Z:$(subst /,\,$(CURDIR)/native/build/mingw)
test-windows: | build
	@$(call NEEDS,cmake x86_64-w64-mingw32-gcc-posix x86_64-w64-mingw32-g++-posix wine,Debian: mingw-w64 wine64 wine)
	@cmake --preset mingw >build/mingw.log && cmake --build --preset mingw >>build/mingw.log || { cat build/mingw.log; exit 1; }
	@for library in simd_c cpp; do if x86_64-w64-mingw32-objdump -d --no-show-raw-insn native/build/mingw/setun_$$library.dll | grep -E 'vmov(ap[sd]|dqa(32|64)?) .*\(.*%[yz]mm|vmov(ap[sd]|dqa(32|64)?) .*%[yz]mm.*\(' | head -3 | grep .; then \
	  echo "setun_$$library.dll has aligned moves of more than the stack is aligned to (GCC bug 54412)"; exit 1; fi; done
	@wineboot --init >/dev/null 2>&1; x86_64-w64-mingw32-gcc-posix -shared -O1 -o $(WINEPREFIX)/drive_c/windows/system32/bcryptprimitives.dll native/test/bcryptprimitives.c -ladvapi32
	@for library in simd_c cpp; do wine native/build/mingw/test_$$library.exe | tail -1; done
	@echo "left out, because wine cannot clean up their folders: TestBrokenLibraryIsReported, TestDamagedProfileIsReported"
	@GOOS=windows CGO_ENABLED=0 SETUN_TEST_NATIVE=require go test -count=1 -short -timeout 30m -exec wine -skip 'BrokenLibraryIsReported|DamagedProfileIsReported' -v $(PORTABLE) 2>&1 | tee build/windows-go.log | $(SHOW)
	@GOOS=windows CGO_ENABLED=0 go build -o build/calibrate.exe ./calibrate
	@SETUN_BACKEND_PATH='$(SETUN_TEST_LIBRARIES)' wine build/calibrate.exe verify 2>build/verify.log | tail -2

# For a machine with a GPU, which may have no Go: sources, test and calibrate programs, and the script that runs them.
gpu-bundle: | build
	@rm -rf build/gpu-bundle && mkdir -p build/gpu-bundle/source
	@cp -r CMakeLists.txt CMakePresets.json cmake build/gpu-bundle/source/ && tar -c --exclude=native/build native | tar -x -C build/gpu-bundle/source
	CGO_ENABLED=0 go test -c -ldflags='-s -w' -o build/gpu-bundle/cuda.test ./backends/cuda
	CGO_ENABLED=0 go build -ldflags='-s -w' -o build/gpu-bundle/calibrate ./calibrate
	@cp bench/gpu/peers.py native/cuda/test/gpu.sh build/gpu-bundle/
	@du -sh build/gpu-bundle

build:
	@mkdir -p build

setup native run lint test-native test-go test-cuda gpu-bundle test-pure test-race test-variants bench: | build

clean:
	rm -rf build native/build
