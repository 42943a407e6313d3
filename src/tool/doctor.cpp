// SPDX-License-Identifier: GPL-2.0
#include "tool/doctor.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <set>
#include <unistd.h>

#include "llbitmap/release.h"
#include "tool/error.hpp"
#include "tool/fix.hpp"
#include "tool/member.hpp"
#include "tool/mounts.hpp"
#include "tool/status.hpp"
#include "tool/text.hpp"

using Json = nlohmann::ordered_json;

namespace tool {

namespace {

constexpr u32 kKernelLeast[2] = {7, 2}; // md before that destroys a bitmap before its sysfs files
constexpr u32 kMdadmLeast[2] = {4, 6}; // the first that knows lockless bitmaps

struct Version {
	u32 major = 0, minor = 0;
	bool known = false;
	bool less(const u32 least[2]) const
	{
		return known && (major < least[0] || (major == least[0] && minor < least[1]));
	}
};

// The first "N.N" of a text.
Version version_in(const std::string &text)
{
	Version v;
	for (size_t i = 0; i < text.size() && !v.known; i++) {
		if (isdigit(u8(text[i])) && (!i || !isdigit(u8(text[i - 1]))))
			v.known = sscanf(text.c_str() + i, "%4u.%4u", &v.major, &v.minor) == 2;
	}
	return v;
}

struct Kernel {
	std::string release;
	bool running = false, newest = false;
	bool built_in = false; // its md has a lockless bitmap of its own
	std::vector<std::string> modules; // files
	std::string headers; // the folder it is built in, or empty
	std::string initramfs; // file, or empty
	std::optional<bool> initramfs_has_md, initramfs_has_module;

	bool next() const { return running || newest; } // is it likely to be booted?
	std::string folder() const { return "/lib/modules/" + release; }
};

class Doctor {
    public:
	explicit Doctor(const DoctorWanted &wanted)
		: wanted_(wanted)
	{}

	const std::vector<Fix> &fixes() const { return fixes_; }

	int look()
	{
		arrays();
		loose_members();
		kernels();
		loading();
		loaded();
		dkms();
		mdadm();
		secure_boot();
		fstab();
		inactive();
		// Where no array needs the module yet, nothing is lost at the next boot.
		for (Notice &n : found_) {
			if (!needed_ && n.array.empty() && n.severity == Severity::Critical)
				n.severity = Severity::Warning;
		}
		std::stable_sort(found_.begin(), found_.end(),
				 [](const Notice &x, const Notice &y) { return x.severity > y.severity; });
		int status = kDone;
		if (worst(found_) > Severity::Info)
			status = kDamaged;
		for (const Judged &one : all_) {
			if (one.verdict.health == Health::Inactive || one.verdict.health == Health::Failed)
				status = kUnusable;
		}
		wanted_.json ? print_json(status) : print();
		return status;
	}

    private:
	const DoctorWanted &wanted_;
	std::vector<Judged> all_;
	std::vector<Kernel> kernels_;
	std::vector<Notice> found_;
	std::vector<std::string> seen_; // what is in order
	std::vector<Fix> fixes_; // what of it --fix can do
	bool needed_ = false; // by an array with a lockless bitmap

	void say(const char *id, Severity severity, const std::string &text, const std::string &action = "",
		 const std::string &array = "")
	{
		found_.push_back({id, severity, text, action, array});
	}

	// ---- arrays ----

	void arrays()
	{
		all_ = judged(wanted_.arrays);
		u64 lockless = 0;
		for (const Judged &one : all_) {
			lockless += one.array.bitmap == Has::Lockless;
			needed_ |= one.verdict.wants_module;
			for (Notice n : one.verdict.notices) {
				if (n.id == "classic_bitmap" && !wanted_.arrays.empty())
					n.severity = Severity::Warning;
				found_.push_back(n);
			}
		}
		needed_ |= lockless > 0;
		seen_.push_back(std::to_string(all_.size()) + (all_.size() == 1 ? " array, " : " arrays, ") +
				std::to_string(lockless) + " with a lockless bitmap");
	}

	// Members of arrays that nobody put together. udev's notes are asked, not the disks: those
	// may sleep.
	void loose_members()
	{
		for (const std::string &name : names_in("/sys/class/block")) {
			const std::string device = "/sys/class/block/" + name;
			std::string notes =
				file_text("/run/udev/data/b" + file_line(device + "/dev")).value_or("");
			if (notes.find("ID_FS_TYPE=linux_raid_member") == notes.npos ||
			    !names_in(device + "/holders").empty())
				continue;
			std::string path = "/dev/" + name;
			std::replace(path.begin(), path.end(), '!', '/');
			try {
				Member m = Member::read(Device(at(path), Device::Use::Look));
				if (m.bitmap.kind != Kind::Lockless || !m.super.active())
					continue;
				needed_ = true;
				say("array_absent", Severity::Critical,
				    path + " is a member of array " + m.super.name + " (" +
					    m.super.uuid_text() +
					    ") with a lockless bitmap, and belongs to no running array",
				    "modprobe llbitmap; mdadm --assemble --scan");
			} catch (const std::exception &) {
				say("member_unread", Severity::Info,
				    path + " is a member of no running array, and could not be read to see which bitmap it has",
				    "llbitmap doctor, as root");
			}
		}
	}

	// An array that was put together before the module was there stays as it is until somebody stops it:
	// nothing runs on it, and its data is not touched.
	void inactive()
	{
		bool have = registered() ||
			    std::any_of(kernels_.begin(), kernels_.end(),
					[](const Kernel &k) { return k.running && !k.modules.empty(); });
		for (const Judged &one : all_) {
			if (!one.verdict.assembled_early || !have || !have_program("mdadm"))
				continue;
			const std::string device = "/dev/" + one.array.name;
			std::vector<std::string> assemble{"mdadm", "--assemble", device};
			for (const Part &p : one.array.parts) {
				assemble.push_back("/dev/" + p.name);
				std::replace(assemble.back().begin(), assemble.back().end(), '!', '/');
			}
			Fix fix{Fix::Turn::Array, "inactive", {{"mdadm", "--stop", device}, assemble}};
			if (!registered())
				fix.commands.insert(fix.commands.begin(), {"modprobe", "llbitmap"});
			fixes_.push_back(fix);
		}
	}

	// ---- kernels ----

	Kernel kernel(const std::string &release)
	{
		Kernel k;
		k.release = release;
		for (const std::string &config : {"/boot/config-" + release, k.folder() + "/config"})
			k.built_in |=
				file_text(config, 1 << 20).value_or("").find("\nCONFIG_MD_LLBITMAP=y") !=
				std::string::npos;
		for (const char *sub :
		     {"/updates", "/updates/dkms", "/extra", "/kernel/drivers/md", "/weak-updates"}) {
			for (const std::string &name : names_in(k.folder() + sub)) {
				if (name.starts_with("llbitmap.ko"))
					k.modules.push_back(k.folder() + sub + '/' + name);
			}
		}
		if (is_folder(k.folder() + "/build"))
			k.headers = k.folder() + "/build";
		const std::string entry = '/' + file_line("/etc/machine-id") + '/' + release + "/initrd";
		for (const std::string &name :
		     {"/boot/initrd.img-" + release, "/boot/initramfs-" + release + ".img",
		      "/boot/initrd-" + release, "/boot" + entry, "/efi" + entry, "/boot/efi" + entry}) {
			if (k.initramfs.empty() && exists(name))
				k.initramfs = name;
		}
		return k;
	}

	void kernels()
	{
		const std::string now = file_line("/proc/sys/kernel/osrelease");
		for (const std::string &release : names_in("/lib/modules")) {
			// What is left of a removed kernel has no list of modules.
			if (!exists("/lib/modules/" + release + "/modules.builtin") &&
			    !exists("/lib/modules/" + release + "/modules.order"))
				continue;
			kernels_.push_back(kernel(release));
			kernels_.back().running = release == now;
		}
		if (!kernels_.empty())
			kernels_.back().newest = true;
		if (!wanted_.kernel.empty()) {
			std::erase_if(kernels_, [&](const Kernel &k) { return k.release != wanted_.kernel; });
			if (kernels_.empty())
				throw Error(kUnreadable, "/lib/modules/" + wanted_.kernel +
								 ": no such kernel is installed");
		}
		bool have = false;
		for (Kernel &k : kernels_) {
			have |= k.built_in || !k.modules.empty();
			module(k);
			initramfs(k);
		}
		if (kernels_.empty())
			say("no_kernel", Severity::Info,
			    "no kernel is installed in /lib/modules: what boots this machine is not known");
		else if (!have && !exists("/sys/module/llbitmap"))
			seen_.push_back("no kernel with the module");
	}

	// The version of the source that dkms has; empty: none.
	static std::string source()
	{
		for (const std::string &name : names_in("/usr/src")) {
			if (name.starts_with("llbitmap-"))
				return name.substr(9);
		}
		return "";
	}

	static std::string how_to_build(const Kernel &k)
	{
		std::string how;
		if (k.headers.empty())
			how = "apt install linux-headers-" + k.release + "; ";
		if (!source().empty())
			return how + "dkms install llbitmap/" + source() + " -k " + k.release;
		return how + "make install KVER=" + k.release + ", in llbitmap's source";
	}

	void build(const char *id, const Kernel &k)
	{
		if (!source().empty() && !k.headers.empty() && have_program("dkms"))
			fixes_.push_back({Fix::Turn::Module,
					  id,
					  {{"dkms", "install", "llbitmap/" + source(), "-k", k.release}}});
	}

	void make_initramfs(const char *id, const Kernel &k)
	{
		if (have_program("update-initramfs"))
			fixes_.push_back(
				{Fix::Turn::Initramfs, id, {{"update-initramfs", "-u", "-k", k.release}}});
		else if (have_program("dracut"))
			fixes_.push_back(
				{Fix::Turn::Initramfs, id, {{"dracut", "--force", k.initramfs, k.release}}});
	}

	// dkms builds for a new kernel by itself, unless this file is there.
	void dkms()
	{
		const char *off = "/etc/dkms/no-autoinstall";
		if (source().empty() || !exists(off))
			return;
		say("dkms_off", Severity::Warning,
		    std::string(off) + " is there: dkms builds nothing for the next kernel",
		    std::string("rm ") + off);
		fixes_.push_back({Fix::Turn::Dkms, "dkms_off", {{"rm", at(off)}}});
	}

	static std::string called(const Kernel &k)
	{
		return "kernel " + k.release + (k.running ? " (running)" : k.newest ? " (the newest)" : "");
	}

	void module(const Kernel &k)
	{
		Severity severity = k.next() ? Severity::Critical : Severity::Warning;
		if (k.built_in) {
			seen_.push_back(called(k) + ": has a lockless bitmap of its own");
			return;
		}
		if (version_in(k.release).less(kKernelLeast)) {
			say("kernel_old", severity,
			    called(k) +
				    ": older than 7.2, for which the module is not made: a lockless array stays inactive under it",
			    k.running ? "boot a newer kernel" : "do not boot it, or remove it");
			return;
		}
		if (k.modules.empty()) {
			say("module_missing", severity,
			    called(k) + ": has no llbitmap.ko: a lockless array stays inactive under it",
			    how_to_build(k));
			build("module_missing", k);
			compiler(k);
			return;
		}
		if (k.modules.size() > 1)
			say("module_two", Severity::Warning,
			    called(k) + ": has the module twice (" + k.modules[0] + ", " + k.modules[1] +
				    "), and modprobe takes whichever depmod chose",
			    "make uninstall KVER=" + k.release + ", or dkms remove llbitmap/VERSION --all");
		std::string listed = file_text(k.folder() + "/modules.dep", 16 << 20).value_or("");
		if (listed.find("llbitmap.ko") == listed.npos) {
			say("depmod", severity,
			    called(k) + ": modprobe does not know the module: modules.dep has no llbitmap",
			    "depmod " + k.release);
			fixes_.push_back({Fix::Turn::Module, "depmod", {{"depmod", k.release}}});
		}
		std::optional<std::string> magic = said_by({"modinfo", "-F", "vermagic", at(k.modules[0])});
		if (!magic || words(*magic).empty())
			say("module_unread", Severity::Info,
			    called(k) + ": for which kernel its " +
				    k.modules[0].substr(k.folder().size() + 1) +
				    " was built is not known (modinfo)");
		else if (words(*magic)[0] != k.release)
			say("module_foreign", severity,
			    called(k) + ": its llbitmap.ko was built for " + words(*magic)[0] +
				    ", and will be refused",
			    how_to_build(k));
		else
			seen_.push_back(called(k) + ": " + k.modules[0].substr(k.folder().size() + 1));
		compiler(k);
	}

	// What compiled the kernel is what compiles the module: the next update needs it, too.
	void compiler(const Kernel &k)
	{
		if (!k.newest)
			return;
		if (k.headers.empty()) {
			if (!k.modules.empty()) // else how_to_build() says it
				say("headers_missing", Severity::Warning,
				    called(k) +
					    ": its headers are not installed: where no package brings its successor's, no module is built for that",
				    "apt install linux-headers-" + k.release.substr(k.release.find('-') + 1));
			return;
		}
		std::string config = file_text(k.headers + "/include/config/auto.conf", 1 << 20).value_or("");
		size_t at = config.find("CONFIG_GCC_VERSION=");
		if (at == config.npos)
			return;
		u32 wanted = u32(strtoul(config.c_str() + at + 19, nullptr, 10) / 10000);
		for (const std::string &name : names_in("/usr/bin")) {
			size_t found = name.find("g++-");
			if (found != name.npos && (!found || name[found - 1] == '-') &&
			    number(name.substr(found + 4)).value_or(0) >= wanted)
				return;
		}
		if (wanted)
			say("compiler", Severity::Warning,
			    called(k) + ": was built with gcc " + std::to_string(wanted) +
				    ", and no g++ of that version or a newer one is installed: the module cannot be built for it, or for its successor",
			    "apt install g++-" + std::to_string(wanted));
	}

	std::optional<std::string> listing(const std::string &file)
	{
		for (const char *program : {"lsinitramfs", "lsinitrd"}) {
			std::optional<std::string> list = said_by({program, at(file)});
			if (list && list->find('\n') != list->npos)
				return list;
		}
		return {};
	}

	// When it was installed, or at least built: dpkg keeps a program's own date, and writes its list
	// of files anew. It says where that is.
	static s64 mdadm_came()
	{
		std::optional<std::string> list = said_by({"dpkg-query", "--control-path", "mdadm", "list"});
		s64 came = list ? changed_at(list->substr(0, list->find('\n'))) : 0;
		for (const char *name : {"/usr/sbin/mdadm", "/sbin/mdadm"})
			came = std::max(came, changed_at(name));
		return came;
	}

	void initramfs(Kernel &k)
	{
		if (k.built_in || wanted_.skip_initramfs)
			return;
		if (k.initramfs.empty()) {
			if (k.next() && !k.modules.empty())
				say("initramfs_unread", Severity::Info,
				    called(k) +
					    ": no initramfs of it is known by name, so whether the module is in it is not known");
			return;
		}
		std::optional<std::string> list = listing(k.initramfs);
		if (!list) {
			say("initramfs_unread", Severity::Info,
			    k.initramfs +
				    " could not be listed (lsinitramfs or lsinitrd, as root): whether the module is in it is not known");
			return;
		}
		auto has = [&](const char *name) { return list->find(name) != list->npos; };
		k.initramfs_has_module = has("/llbitmap.ko");
		k.initramfs_has_md =
			has("/md-mod.ko") || has("/raid1.ko") || has("/raid456.ko") || has("bin/mdadm");
		Severity severity = k.next() ? Severity::Critical : Severity::Warning;
		const std::string again =
			"update-initramfs -u -k " + k.release + " (dracut --force --kver " + k.release + ")";
		if (!*k.initramfs_has_md) {
			seen_.push_back(k.initramfs + ": no md in it; arrays are assembled later");
		} else if (!*k.initramfs_has_module && !k.modules.empty()) {
			say("initramfs_without_module", severity,
			    k.initramfs +
				    " assembles arrays and has no llbitmap.ko: a lockless array stays inactive at boot",
			    again);
			make_initramfs("initramfs_without_module", k);
		} else if (*k.initramfs_has_module && !k.modules.empty() &&
			   changed_at(k.initramfs) < changed_at(k.modules[0])) {
			say("initramfs_old", Severity::Warning,
			    k.initramfs +
				    " is older than the kernel's llbitmap.ko: it boots with the one before",
			    again);
			make_initramfs("initramfs_old", k);
		} else if (*k.initramfs_has_module && has("bin/mdadm") &&
			   changed_at(k.initramfs) < mdadm_came()) {
			// After an update of mdadm only the newest kernel's is made anew.
			say("initramfs_mdadm_old", k.next() ? Severity::Warning : Severity::Info,
			    k.initramfs +
				    " is older than the mdadm that is installed: if the one in it is older than 4.6, it does not assemble a lockless array",
			    again);
			make_initramfs("initramfs_mdadm_old", k);
		} else if (*k.initramfs_has_module && !has("modprobe.d/llbitmap.conf") &&
			   !has("63-llbitmap.rules")) {
			say("initramfs_without_softdep", severity,
			    k.initramfs +
				    " has llbitmap.ko and nothing that loads it (modprobe.d/llbitmap.conf, 63-llbitmap.rules)",
			    again);
			make_initramfs("initramfs_without_softdep", k);
		} else if (*k.initramfs_has_module) {
			seen_.push_back(k.initramfs + ": llbitmap.ko is in it");
		}
	}

	// ---- what loads it ----

	void loading()
	{
		bool softdep = false, rule = false, listed = false;
		for (const std::string &word : words(file_text("/proc/cmdline").value_or(""))) {
			if (word.starts_with("module_blacklist=") &&
			    ("," + word.substr(17) + ",").find(",llbitmap,") != std::string::npos)
				say("module_blocked", Severity::Critical,
				    "the kernel's command line (" + word +
					    ") keeps llbitmap from being loaded",
				    "take it out of the boot loader's configuration");
		}
		std::set<std::string> read; // a file hides those of its name in the folders that follow
		for (const char *folder : {"/etc/modprobe.d", "/run/modprobe.d", "/usr/local/lib/modprobe.d",
					   "/usr/lib/modprobe.d", "/lib/modprobe.d"}) {
			for (const std::string &name : names_in(folder)) {
				if (!name.ends_with(".conf") || !read.insert(name).second)
					continue;
				const std::string path = folder + ('/' + name);
				for (const std::string &line : lines(file_text(path).value_or(""))) {
					std::vector<std::string> w = words(line);
					if (w.size() < 2)
						continue;
					std::replace(w[1].begin(), w[1].end(), '-', '_');
					bool ours = std::find(w.begin() + 2, w.end(), "llbitmap") != w.end();
					bool of_md = w[1] == "md_mod" || w[1] == "raid1" ||
						     w[1] == "raid10" || w[1] == "raid456";
					softdep |= w[0] == "softdep" && of_md && ours;
					if (w[0] == "install" && w[1] == "llbitmap")
						say("module_blocked", Severity::Critical,
						    path + " has modprobe run something else instead of loading llbitmap",
						    "remove that line");
				}
			}
		}
		for (const char *folder :
		     {"/etc/udev/rules.d", "/run/udev/rules.d", "/usr/local/lib/udev/rules.d",
		      "/usr/lib/udev/rules.d", "/lib/udev/rules.d"}) {
			const std::string path = std::string(folder) + "/63-llbitmap.rules";
			if (!exists(path))
				continue;
			// An empty one in /etc hides the one in /lib.
			rule = file_text(path).value_or("").find("modprobe") != std::string::npos;
			if (!rule)
				say("udev_rule_hidden", Severity::Warning,
				    path + " is without effect, and hides a rule of that name", "remove it");
			break;
		}
		for (const char *folder : {"/etc/modules-load.d", "/usr/lib/modules-load.d"}) {
			for (const std::string &name : names_in(folder))
				listed |= has_line(folder + ('/' + name), "llbitmap");
		}
		listed |= has_line("/etc/modules", "llbitmap");
		bool md_built_in = false;
		for (const Kernel &k : kernels_) {
			if (k.next())
				md_built_in |= file_text(k.folder() + "/modules.builtin", 1 << 20)
						       .value_or("")
						       .find("/md-mod.ko") != std::string::npos;
		}
		bool own = std::all_of(kernels_.begin(), kernels_.end(),
				       [](const Kernel &k) { return k.built_in; });
		if (own && !kernels_.empty())
			return;
		if (!softdep && !rule && !listed)
			say("softdep_missing", Severity::Critical,
			    "nothing loads llbitmap at boot, since md itself never asks for it: no softdep in modprobe.d, no udev rule",
			    "make install (or install llbitmap-dkms again)");
		else if (!rule && (md_built_in || !softdep))
			say("udev_rule_missing", Severity::Warning,
			    md_built_in
				    ? "md is built into the kernel, and the udev rule that loads llbitmap is missing: the softdep may come too late"
				    : "llbitmap is loaded by a list only, which may come after the arrays",
			    "make install (or install llbitmap-dkms again)");
		else
			seen_.push_back(std::string("loaded at boot by ") + (softdep && rule
										     ? "softdep and udev rule"
									     : softdep ? "softdep"
										       : "udev rule"));
	}

	static bool has_line(const std::string &path, const std::string &word)
	{
		for (const std::string &line : lines(file_text(path).value_or(""))) {
			if (trimmed(line) == word)
				return true;
		}
		return false;
	}

	void loaded()
	{
		const std::string version = file_line("/sys/module/llbitmap/version");
		if (version.empty()) {
			for (const Kernel &k : kernels_) {
				if (k.running && !k.modules.empty())
					seen_.push_back(
						"llbitmap is not loaded now: modprobe llbitmap, before an array is made or converted");
			}
			return;
		}
		for (const Kernel &k : kernels_) {
			if (!k.running || k.modules.empty())
				continue;
			std::optional<std::string> there =
				said_by({"modinfo", "-F", "version", at(k.modules[0])});
			if (there && !trimmed(*there).empty() && trimmed(*there) != version)
				say("module_old", Severity::Warning,
				    "loaded is llbitmap " + version + ", installed is " + trimmed(*there),
				    "reboot");
		}
		seen_.push_back("llbitmap " + version + " is loaded");
	}

	void mdadm()
	{
		std::optional<std::string> said = said_by({"mdadm", "--version"}, Ends::Anyhow, Hears::Both);
		if (!said) {
			say("mdadm_missing", Severity::Critical, "there is no mdadm, which assembles arrays",
			    "apt install mdadm");
			return;
		}
		Version v = version_in(*said);
		if (v.less(kMdadmLeast))
			say("mdadm_old", Severity::Critical,
			    "mdadm is " + std::to_string(v.major) + "." + std::to_string(v.minor) +
				    ": before 4.6 it can neither make nor assemble an array with a lockless bitmap",
			    "install mdadm 4.6 or newer, then update-initramfs -u -k all");
		else if (v.known)
			seen_.push_back("mdadm " + std::to_string(v.major) + "." + std::to_string(v.minor));
	}

	void secure_boot()
	{
		std::optional<std::string> variable = file_text(
			"/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", 16);
		if (!variable || variable->size() < 5 || (*variable)[4] != 1)
			return;
		seen_.push_back("Secure Boot is on");
		const std::string loaded = file_line("/sys/module/llbitmap/version");
		for (const Kernel &k : kernels_) {
			// One that is loaded was accepted.
			if (k.modules.empty() || (k.running && !loaded.empty()))
				continue;
			std::optional<std::string> signer =
				said_by({"modinfo", "-F", "signer", at(k.modules[0])});
			Severity severity = k.next() ? Severity::Critical : Severity::Warning;
			if (!signer) {
				say("signature_unread", Severity::Info,
				    k.modules[0] + ": whether it is signed is not known (modinfo)");
			} else if (trimmed(*signer).empty()) {
				say("secure_boot_unsigned", severity,
				    "Secure Boot is on, and " + k.modules[0] +
					    " is not signed: it will be refused, and a lockless array stays inactive",
				    "sign it with a key of yours (src/shim/KERNELS.md: Secure Boot), or install llbitmap-dkms");
			} else if (exists("/var/lib/dkms/mok.pub")) {
				std::optional<std::string> key = said_by(
					{"mokutil", "--test-key", at("/var/lib/dkms/mok.pub")}, Ends::Anyhow);
				if (key && key->find("already enrolled") == key->npos)
					say("secure_boot_key", severity,
					    "Secure Boot is on, and the machine does not trust the key that signs llbitmap.ko",
					    "mokutil --import /var/lib/dkms/mok.pub, reboot, and confirm at the console");
			}
		}
	}

	void fstab()
	{
		for (const Mount &m : boot_mounts()) {
			for (const Judged &one : all_) {
				if (!m.below.contains(one.array.name) || one.array.bitmap != Has::Lockless)
					continue;
				say("fstab", Severity::Info,
				    "/etc/fstab mounts " + m.where + " from " + m.device +
					    (m.device == one.array.name
						     ? ""
						     : ", which is on " + one.array.name + ",") +
					    " without nofail: if the array does not come, the boot ends in emergency mode",
				    "add nofail to its options", one.array.name);
			}
		}
	}

	// ---- what is printed ----

	void print()
	{
		Screen s;
		u64 problems = 0;
		for (const Notice &n : found_) {
			bool note = n.severity == Severity::Info;
			problems += !note;
			s.field(note ? "note" : "problem",
				(n.array.empty() || n.text.find(n.array) != n.text.npos ? ""
											: n.array + ": ") +
					n.text + " [" + n.id + "]",
				note				  ? Colour::None
				: n.severity == Severity::Warning ? Colour::Notice
								  : Colour::Bad);
			if (!n.action.empty())
				s.field("action", n.action);
		}
		s.gap();
		for (const std::string &line : seen_)
			s.field("seen", line);
		s.gap();
		if (problems)
			s.line(std::to_string(problems) + (problems == 1 ? " problem" : " problems"),
			       Colour::Bad);
		else
			s.line("nothing to see to", Colour::Good);
		s.show();
	}

	void print_json(int status)
	{
		Json kernels = Json::array(), notices = Json::array();
		for (const Kernel &k : kernels_)
			kernels.push_back(
				{{"release", k.release},
				 {"running", k.running},
				 {"newest", k.newest},
				 {"built_in", k.built_in},
				 {"modules", k.modules},
				 {"initramfs", k.initramfs.empty() ? Json() : Json(k.initramfs)},
				 {"initramfs_has_md",
				  k.initramfs_has_md ? Json(*k.initramfs_has_md) : Json()},
				 {"initramfs_has_module",
				  k.initramfs_has_module ? Json(*k.initramfs_has_module) : Json()}});
		for (const Notice &n : found_)
			notices.push_back({{"id", n.id},
					   {"severity", severity_text(n.severity)},
					   {"text", n.text},
					   {"action", n.action.empty() ? Json() : Json(n.action)},
					   {"array", n.array.empty() ? Json() : Json(n.array)}});
		Json out{{"format", 1},	      {"tool", LLB_RELEASE}, {"exit_status", status},
			 {"needed", needed_}, {"kernels", kernels},  {"notices", notices},
			 {"seen", seen_}};
		printf("%s\n", out.dump(2, ' ', true, Json::error_handler_t::replace).c_str());
	}
};

} // namespace

int doctor(const DoctorWanted &wanted)
{
	if (wanted.fix && !wanted.yes && !isatty(STDIN_FILENO))
		refuse("nobody can be asked: say --yes");
	if (wanted.fix && geteuid() && !getenv("LLBITMAP_ROOT"))
		refuse("--fix is for root");
	std::vector<std::string> asked;
	bool failed = false;
	for (;;) {
		Doctor one(wanted);
		int status = one.look();
		if (!wanted.fix)
			return status;
		// What was mended may show what is to be done next: a module that is built now is in
		// no initramfs yet.
		if (!carry_out(one.fixes(), !wanted.yes, &asked, &failed)) {
			if (asked.empty() && status != kDone)
				tool::say("there is nothing in it that --fix does");
			return failed ? kBroken : status;
		}
	}
}

} // namespace tool
