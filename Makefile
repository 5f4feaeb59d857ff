# Thin front of CMake. `make demo` and `make test` each work as the first command on a bare Debian.
BUILD ?= build
PREFIX ?= /usr/local
SEEDS ?= 1
PACKAGES = gcc cmake ninja-build pkg-config libjansson-dev libyaml-dev libonig-dev libutf8proc-dev librandom123-dev zlib1g-dev libzstd-dev libsnappy-dev libcmocka-dev
SUDO = $(shell [ "$$(id -u)" = 0 ] || echo sudo)
CMAKE_FLAGS ?=

.PHONY: all deps ready test check-long asan fuzz bench demo install clean

all: ready
	cmake --preset release -B $(BUILD) $(CMAKE_FLAGS) >/dev/null
	cmake --build $(BUILD)

# Installs the Debian packages that the build and the tests need.
deps:
	@echo "installing: $(PACKAGES)"
	$(SUDO) apt-get update -qq
	$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(PACKAGES)

# Calls deps only when something is missing.
ready:
	@if command -v dpkg-query >/dev/null && ! dpkg-query -W -f='$${Status}\n' $(PACKAGES) 2>/dev/null | awk '/install ok installed/ {n++} END {exit n != $(words $(PACKAGES))}'; then \
	  $(MAKE) deps; fi

test: all
	tools/check_layers.sh
	ctest --test-dir $(BUILD) --output-on-failure -LE long -j2

check-long: all
	ctest --test-dir $(BUILD) --output-on-failure -j2

asan: ready
	cmake --preset asan -B build-asan $(CMAKE_FLAGS) >/dev/null
	cmake --build build-asan
	ctest --test-dir build-asan --output-on-failure -LE "long|slow" -j2

# The fuzz targets, with clang; tools/fuzz.sh runs them.
fuzz: ready
	cmake --preset fuzz -B build-fuzz $(CMAKE_FLAGS) >/dev/null
	cmake --build build-fuzz --target fuzz

# make bench MODEL=DIR DATA=pairs.jsonl: this machine's speed with that model; without them with the demo's.
bench: all
	SAIL=$(BUILD)/sail bench/run.sh $(MODEL) $(DATA)

demo: all
	SAIL=$(BUILD)/sail examples/demo/run.sh $(SEEDS)

install: all
	cmake --install $(BUILD) --prefix $(PREFIX)
	@if [ "$$(id -u)" = 0 ] && [ -z "$(DESTDIR)" ]; then ldconfig; fi

clean:
	rm -rf build build-asan build-clang build-fuzz
