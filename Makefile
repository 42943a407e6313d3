# SPDX-License-Identifier: GPL-2.0
# `make help` lists what there is to type. Everything built lands in build/.

# The kernel to build for: by release, or by its build or headers folder.
ifdef KDIR
KVER ?= $(shell cat '$(KDIR)/include/config/kernel.release' 2>/dev/null || echo unknown)
else
KVER ?= $(shell uname -r)
endif
KDIR ?= /lib/modules/$(KVER)/build

# For a kernel without BTF: the drivers/md folder of its source.
MD_HEADERS ?=

BUILD := $(CURDIR)/build/$(KVER)
KBUILD = $(MAKE) -C '$(KDIR)' M='$(CURDIR)' MO='$(BUILD)' \
	MD_HEADERS='$(if $(MD_HEADERS),$(abspath $(MD_HEADERS)))' --no-print-directory

.DEFAULT_GOAL := modules
.PHONY: modules install uninstall tool deb repo demo test bench test-long peer-report matrix mdadm-suite fs-suite check clean help preflight sim model mutants guest-mutants crash-cost

modules: preflight
	@mkdir -p '$(BUILD)'
	+@$(KBUILD) modules
	@echo '$(BUILD:$(CURDIR)/%=%)/llbitmap.ko'

# Says in one line all that is missing and how to get it.
preflight:
	$(if $(call have,python3),,$(error llbitmap: no python3: apt-get install $(without-python)))
	$(call stop-if,$(shell scripts/build/mdheader.py --check $(own-cc) '$(KVER)' '$(KDIR)' $(MD_HEADERS) 2>&1))

have = $(shell command -v $(1))
# mdheader, which knows better, is Python.
without-python = $(strip python3-minimal \
	$(if $(wildcard $(KDIR)/Makefile),,linux-headers-$(KVER)) \
	$(if $(call have,xz),,xz-utils) $(if $(call have,g++),,g++))

# Only on the command line does CC choose a compiler: Kbuild ignores the environment's.
own-cc = $(if $(filter command%,$(origin CC)),--cc='$(CC)')
stop-if = $(if $(strip $(1)),$(error $(1)))

install: modules
	@scripts/build/place.sh install '$(KVER)' '$(BUILD)/llbitmap.ko' '$(INSTALL_MOD_PATH)'

uninstall:
	@scripts/build/place.sh remove '$(KVER)' '$(INSTALL_MOD_PATH)'

tool:
	@$(MAKE) -s -C src/tool BUILD='$(CURDIR)/build/tool' all
	@echo build/tool/llbitmap

# SUITE=forky or trixie: only for that one.
deb:
	@scripts/packaging/build $(SUITE)

repo:
	@scripts/packaging/repo

demo:
	@scripts/demo

test:
	@scripts/test $(if $(TEST),'$(TEST)')

test-long:
	@scripts/test --long $(if $(TEST),'$(TEST)')

peer-report:
	@scripts/peer-report $(if $(TEST),'$(TEST)')

matrix:
	@scripts/matrix $(if $(MATRIX),'$(MATRIX)')

bench:
	@QUICK='$(QUICK)' scripts/bench

mdadm-suite:
	@scripts/mdadm-suite $(TEST)

fs-suite:
	@scripts/fs-suite $(if $(TEST),'$(TEST)')

SEEDS ?= 1000
sim:
	@$(MAKE) -s -C tests/sim BUILD='$(CURDIR)/build/sim' all
	@build/sim/sim --cuts $$(($(SEEDS) * 200)) --report build/sim/report.json

model:
	@$(MAKE) -s -C tests/model BUILD='$(CURDIR)/build/model' all
	@build/model/model

crash-cost:
	@QUICK='$(QUICK)' scripts/crash-cost

mutants:
	@scripts/mutants

guest-mutants:
	@scripts/guest-mutants

check:
	@scripts/lint '$(KDIR)' '$(BUILD)'

clean:
	rm -rf build

help:
	@echo 'Build and install'
	@echo '  make                llbitmap.ko for the running kernel (KVER=$(KVER))'
	@echo '                      KVER=7.2.12+deb14-amd64   for another installed kernel'
	@echo '                      KDIR=folder               for a kernel build or headers folder'
	@echo '                      MD_HEADERS=folder         its drivers/md, if it has no BTF'
	@echo '  make install        the module, and what loads it at boot (INSTALL_MOD_PATH=)'
	@echo '  make uninstall      take both away again'
	@echo '  make tool           build/tool/llbitmap, the command: status, doctor, map, convert, ...'
	@echo '  make deb            Debian packages, in build/deb/SUITE/ (SUITE=forky or trixie: one)'
	@echo '  make repo           a signed APT repository of them, in build/repo/ (KEY=your key)'
	@echo '  make clean          remove build/'
	@echo 'See it work'
	@echo '  make demo           in a virtual machine: written, cut off from power, recovered'
	@echo 'Test'
	@echo '  make test           all tests; TEST=regex only those whose names match (scripts/test --list)'
	@echo '  make test-long      those that take longer, too'
	@echo '  make check          lint'
	@echo '  make sim            SEEDS=1000: simulated power cuts, 200 for each seed'
	@echo '  make model          the model checker: interleavings of the core'
	@echo '  make matrix         every kernel that Debian offers: built, loaded, tested; MATRIX=regex'
	@echo '  make mdadm-suite    mdadm'\''s own tests with lockless bitmaps; TEST=regex as above'
	@echo '  make fs-suite       stress-ng and dbench over ext4 and xfs on lockless arrays; TEST=regex'
	@echo 'Are the tests good?'
	@echo '  make mutants        breaks of the core: do model, simulator and unit tests notice?'
	@echo '  make guest-mutants  do the tests in guests?'
	@echo 'Measure and compare'
	@echo '  make bench          how fast, against none, classic and in-tree; QUICK=1: in ten minutes'
	@echo '  make crash-cost     what a power cut costs at real sizes; QUICK=1: in less than a minute'
	@echo '  make peer-report    the in-tree driver and this one, property by property'
	@echo 'More: scripts/README.md, tests/README.md'
