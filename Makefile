# fettle - a terminal workstation for fine-tuning language models.
# `make help` lists the targets. Everything built lies under $(BUILD).

# ---- settings ----
CC      ?= gcc
PREFIX  ?= /usr/local
BUILD   ?= build
WERROR  ?= 0
SAN     ?=
CFLAGS  ?= -O2 -g
PKGS    := ncursesw libcurl jansson sqlite3 libmicrohttpd libpcre2-8 libutf8proc libzstd libxxhash libcrypto
TPKGS   := check vterm
DEBS    := gcc make pkg-config libncurses-dev libcurl4-openssl-dev libjansson-dev \
           libsqlite3-dev libmicrohttpd-dev libpcre2-dev libutf8proc-dev libzstd-dev libxxhash-dev \
           libssl-dev check libvterm-dev tmux

WARN    := -Wall -Wextra -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes -Wformat=2
ifeq ($(WERROR),1)
WARN    += -Werror
endif
ifneq ($(SAN),)
SANFLAGS := -fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all
endif

# ---- the packages of this machine ----
# Targets that build nothing do not need them.
ifeq ($(filter deps help clean lint format,$(or $(MAKECMDGOALS),all)),)
MISSING := $(shell for p in $(PKGS) $(TPKGS); do pkg-config --exists $$p 2>/dev/null || echo $$p; done)
endif
PKG_CFLAGS = $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS   = $(shell pkg-config --libs $(PKGS) 2>/dev/null)
T_LIBS     = $(shell pkg-config --libs $(TPKGS) 2>/dev/null)

ALL_CFLAGS = -std=c11 -D_GNU_SOURCE -I. $(CFLAGS) $(WARN) $(SANFLAGS) $(PKG_CFLAGS) -MMD -MP
LDLIBS     = $(PKG_LIBS) -lm -lpthread -ldl

# ---- modules: one archive each; LIBS_x is what x may use, itself first ----
CORE := base wire model text train sample ckpt engine daemon client starter recipe
MODS := $(CORE) kernels store tui views fuzz
LIBS_base    := base
LIBS_wire    := wire base
LIBS_kernels := kernels
LIBS_store   := store
LIBS_tui     := tui
LIBS_model   := model kernels wire base
LIBS_text    := text $(LIBS_model)
LIBS_train   := train $(LIBS_text)
LIBS_sample  := sample $(LIBS_text)
LIBS_ckpt    := ckpt train sample $(LIBS_text)
LIBS_engine  := engine $(LIBS_ckpt)
LIBS_daemon  := daemon store wire base
LIBS_client  := client wire base
LIBS_starter := starter $(LIBS_text)
LIBS_recipe  := recipe starter client $(LIBS_text)
LIBS_sys     := base
LIBS_fuzz    := fuzz train $(LIBS_text)
LIBS_views   := views recipe starter client daemon engine ckpt train sample text model kernels store wire base tui

SRC_kernels_once := $(wildcard kernels/*.c) $(addprefix kernels/cpu/,mem.c pool.c cpu.c)
SRC_kernels_isa  := $(filter-out $(SRC_kernels_once),$(wildcard kernels/cpu/*.c))
ISAS       := scalar avx2 avx512
ISA_scalar := -Wno-psabi
ISA_avx2   := -mavx2 -mfma -mf16c
ISA_avx512 := -mavx512f -mavx512vl -mavx512bw -mavx512dq -mavx2 -mfma -mf16c
# (sanitizers at -O3 make the compiler run for hours over unrolled lanes)
KFLAGS     := $(if $(SAN),-O1,-O3) -ffp-contract=off -fno-math-errno -fno-trapping-math

obj = $(patsubst %.c,$(BUILD)/%.o,$(1))
$(foreach m,$(CORE),$(eval OBJ_$(m) := $(call obj,$(wildcard core/$(m)/*.c))))
OBJ_kernels := $(call obj,$(wildcard $(SRC_kernels_once))) \
               $(foreach i,$(ISAS),$(patsubst %.c,$(BUILD)/%.$(i).o,$(SRC_kernels_isa)))
OBJ_store := $(call obj,$(wildcard store/*.c))
OBJ_tui   := $(call obj,$(wildcard tui/*.c))
OBJ_views := $(call obj,$(filter-out views/main.c,$(wildcard views/*.c)))
OBJ_fuzz  := $(call obj,$(filter-out tests/fuzz/main.c tests/fuzz/test_smoke.c,$(wildcard tests/fuzz/*.c)))

TESTS := $(wildcard tests/*/test_*.c)
TBINS := $(patsubst tests/%.c,$(BUILD)/t/%,$(TESTS))

.DEFAULT_GOAL := all
.PHONY: all deps demo test tests check asan fuzz kill peer lint format starter screens install clean help gpu-check
.SECONDARY:

all: $(BUILD)/fettle

ifneq ($(MISSING),)
$(error missing packages: $(MISSING). Run `make deps` (as root: apt-get install $(DEBS)))
endif

$(BUILD)/fettle: $(call obj,views/main.c) $(foreach m,$(LIBS_views),$(BUILD)/lib/$(m).a)
	@echo "  LINK $@"
	@$(CC) $(SANFLAGS) -o $@ $< -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(LDLIBS)

define lib_rule
$(BUILD)/lib/$(1).a: $(OBJ_$(1))
	@mkdir -p $$(@D); rm -f $$@; ar rcs $$@ $$^
endef
$(foreach m,$(MODS),$(eval $(call lib_rule,$(m))))

$(BUILD)/%.o: %.c
	@mkdir -p $(@D); echo "  CC   $<"
	@$(CC) $(ALL_CFLAGS) -c -o $@ $<

define isa_rule
$(BUILD)/%.$(1).o: %.c
	@mkdir -p $$(@D); echo "  CC   $$< ($(1))"
	@$(CC) $(ALL_CFLAGS) $(KFLAGS) $(ISA_$(1)) -DKERN_ISA=$(1) -DKERN_ISA_$(1)=1 -c -o $$@ $$<
endef
$(foreach i,$(ISAS),$(eval $(call isa_rule,$(i))))

# ---- tests: one binary a file; tests/core/test_ckpt*.c links module ckpt ----
tmod = $(if $(filter core/%,$(1)),$(word 2,$(subst _, ,$(notdir $(1)))),$(firstword $(subst /, ,$(1))))
define test_rule
$(BUILD)/t/$(1): $(BUILD)/tests/$(1).o $(BUILD)/t/$(1).runner.o $(foreach m,$(LIBS_$(call tmod,$(1))),$(BUILD)/lib/$(m).a)
	@mkdir -p $$(@D)
	@$(CC) $(SANFLAGS) -o $$@ $$(filter %.o,$$^) -Wl,--start-group $$(filter %.a,$$^) -Wl,--end-group $(T_LIBS) $(LDLIBS)
$(BUILD)/t/$(1).runner.o: tests/runner.c
	@mkdir -p $$(@D)
	@$(CC) $(ALL_CFLAGS) -DSUITE=$(patsubst test_%,%,$(notdir $(1)))_suite -c -o $$@ $$<
endef
$(foreach t,$(patsubst tests/%.c,%,$(TESTS)),$(eval $(call test_rule,$(t))))

tests: all $(TBINS)

test: tests lint ## unit and system tests, counts at the end (no GPU, no network)
	@BUILD=$(BUILD) tests/run.sh $(filter-out $(addprefix $(BUILD)/t/,$(SKIP)),$(TBINS))
	@$(if $(SKIP),echo "left out: $(SKIP)",:)

# `make t/core/test_ckpt` builds and runs one test file.
t/%: $(BUILD)/t/%
	@FETTLE=$(abspath $(BUILD)/fettle) $<

lint: ## arrows, banned functions, globals, format
	@BUILD=$(BUILD) tests/lint.sh && tests/lint_selftest.sh

asan: ## the whole test run under ASan and UBSan
	@CK_TIMEOUT_MULTIPLIER=12 $(MAKE) --no-print-directory BUILD=build-asan SAN=address,undefined CFLAGS="-O1 -g" test

$(BUILD)/fuzz: $(call obj,tests/fuzz/main.c) $(foreach m,$(LIBS_fuzz),$(BUILD)/lib/$(m).a)
	@echo "  LINK $@"
	@$(CC) $(SANFLAGS) -o $@ $< -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(LDLIBS)

FUZZ_RUNS ?= 20000
FUZZ_SEED ?= 1
fuzz: ## damaged files and messages under ASan and UBSan (FUZZ_RUNS=200000 a target)
	@$(MAKE) --no-print-directory BUILD=build-fuzz SAN=address,undefined \
	    CFLAGS="-O1 -g -fsanitize-coverage=trace-pc" build-fuzz/fuzz
	@build-fuzz/fuzz all -runs=$(FUZZ_RUNS) -seed=$(FUZZ_SEED) -corpus=tests/fuzz/corpus

kill: all ## kill -9 of worker and daemon in training runs (some minutes)
	@FETTLE=$(abspath $(BUILD)/fettle) tests/fault/kill.sh core/starter/model tests/golden/rows.jsonl

# programs that the scripts of tests/peer drive
$(BUILD)/peer/%: $(BUILD)/tests/peer/%.o $(foreach m,$(LIBS_text),$(BUILD)/lib/$(m).a)
	@mkdir -p $(@D)
	@$(CC) $(SANFLAGS) -o $@ $< -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(LDLIBS)

peer: all $(BUILD)/peer/jinja $(BUILD)/peer/pieces ## against PyTorch, transformers and peft (PYTHON names one that has them)
	@$(or $(PYTHON),python3) tests/peer/jinja.py $(abspath $(BUILD)/peer/jinja)
	@$(or $(PYTHON),python3) tests/peer/parity.py $(abspath $(BUILD)/fettle)
	@$(or $(PYTHON),python3) tests/peer/sp_models.py $(abspath $(BUILD)/fettle)
	@$(or $(PYTHON),python3) tests/peer/splits.py $(abspath $(BUILD)/peer/pieces)
	@$(or $(PYTHON),python3) tests/peer/check.py $(abspath $(BUILD)/fettle)

check: test asan kill ## all that CI runs

deps: ## installs the Debian packages that the build needs
	@set -e; if [ "$$(id -u)" = 0 ]; then S=; else S=sudo; fi; \
	need=; for p in $(DEBS); do dpkg -s $$p >/dev/null 2>&1 || need="$$need $$p"; done; \
	if [ -n "$$need" ]; then echo "installing:$$need"; $$S apt-get update -q && \
	DEBIAN_FRONTEND=noninteractive $$S apt-get install -y -q --no-install-recommends $$need; \
	else echo "deps: all packages are installed"; fi

demo: deps ## installs what is missing, builds, trains the starter model, opens the screen
	@$(MAKE) --no-print-directory -j$$(nproc) all
	@$(BUILD)/fettle demo

starter: all ## makes the starter model anew: corpus, tokenizer, training
	@core/starter/make.sh $(abspath $(BUILD)/fettle) core/starter/model

screens: all ## records the views as text (docs of the README)
	@tests/screens.sh $(abspath $(BUILD)/fettle)

gpu-check: ## not yet: this version has no CUDA backend
	@echo "gpu-check: there is no CUDA backend yet; nothing was checked" >&2; exit 1

format: ## clang-format over the tree
	@clang-format -i $$(git ls-files '*.c' '*.h')

install: all ## to $(PREFIX)/bin
	install -Dm755 $(BUILD)/fettle $(DESTDIR)$(PREFIX)/bin/fettle
	install -d $(DESTDIR)$(PREFIX)/share/fettle/starter
	install -m644 core/starter/model/* $(DESTDIR)$(PREFIX)/share/fettle/starter

clean: ## removes what was built
	rm -rf build build-asan build-fuzz

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
