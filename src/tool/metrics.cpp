// SPDX-License-Identifier: GPL-2.0
#include "tool/metrics.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <functional>
#include <sys/stat.h>
#include <unistd.h>

#include "tool/error.hpp"
#include "tool/status.hpp"
#include "tool/text.hpp"

namespace tool {

namespace {

// A label's value: what the format has an escape for. All of a file that is no UTF-8 is refused.
std::string label(const std::string &value)
{
	std::string out;
	for (char c : utf8(value)) {
		if (c == '\\' || c == '"')
			out += '\\';
		if (c == '\n')
			out += "\\n";
		else
			out += c;
	}
	return out;
}

class Metrics {
    public:
	explicit Metrics(const std::vector<Judged> &all)
		: all_(all)
	{}

	std::string text()
	{
		begin("llbitmap_module_loaded",
		      "Whether the module is loaded, or md has a lockless bitmap of its own.");
		sample("", registered());
		begin("llbitmap_arrays_inactive", "Arrays that are known to the kernel and do not run.");
		u64 inactive = 0;
		for (const Judged &one : all_)
			inactive += one.verdict.health == Health::Inactive;
		sample("", inactive);
		begin("llbitmap_info", "One for each array; what it is.");
		const std::string version = file_line("/sys/module/llbitmap/version");
		for (const Judged &one : all_) {
			const Running &a = one.array;
			constexpr const char *kinds[] = {"lockless", "internal", "file", "none", "unknown"};
			sample(device(a) + ",uuid=\"" + label(a.uuid) + "\",level=\"" + label(a.level) +
				       "\",bitmap=\"" + kinds[static_cast<u32>(a.bitmap)] +
				       "\",module_version=\"" + label(version) + "\"",
			       1);
		}
		begin("llbitmap_health",
		      "0 healthy, 1 syncing, 2 degraded, 3 critical, 4 failed, 5 inactive.");
		for (const Judged &one : all_)
			sample(device(one.array), static_cast<u64>(one.verdict.health));
		begin("llbitmap_chunks", "Chunks by state.");
		for (const Judged &one : all_) {
			const Running &a = one.array;
			for (u32 i = 0; a.counts && i < LLB_STATES; i++)
				sample(device(a) + ",state=\"" + kStateKeys[i] + "\"", (*a.counts)[i]);
		}
		each("llbitmap_chunk_bytes", "What a chunk covers of each member (raid10: of the array).",
		     [](const Running &a) { return a.chunk; });
		each("llbitmap_power_cut_bytes", "What a power cut now leaves to be resynchronised.",
		     [](const Running &a) { return a.cost(); });
		each("llbitmap_waiting_bytes", "What waits for a resync, or is in one.",
		     [](const Running &a) {
			     return a.counts && a.chunk ? std::optional(a.waiting() * *a.chunk)
							: std::nullopt;
		     });
		each("llbitmap_resync_budget_bytes", "What a power cut may cost; 0: no limit.",
		     [](const Running &a) { return a.budget; });
		each("llbitmap_daemon_sleep_seconds", "What rests is clean within two of them.",
		     [](const Running &a) { return a.daemon_sleep; });
		each("llbitmap_barrier_idle_seconds",
		     "How long a region rests before it may be called clean.",
		     [](const Running &a) { return a.barrier_idle; });
		each("llbitmap_sync_left_bytes", "What is left of the sync that runs, at most.",
		     [](const Running &a) {
			     std::optional<Left> left = left_of_sync(a);
			     return left ? std::optional(left->bytes) : std::nullopt;
		     });
		counter("llbitmap_dirtied_chunks_total", "dirtied_chunks",
			"Chunks that writes made dirty on the members, with the neighbours that a write covers.");
		counter("llbitmap_cleaned_chunks_total", "cleaned_chunks", "Chunks that became clean again.");
		counter("llbitmap_batches_total", "batches",
			"Bitmap writes; each goes to all members at once.");
		counter("llbitmap_batch_bytes_total", "batch_bytes", "What they wrote to each member.");
		seconds("llbitmap_batch_seconds_total", "batch_ns_total", "How long they took.");
		counter("llbitmap_batches_refused_total", "batches_refused",
			"Bitmap writes that no member in sync took.");
		counter("llbitmap_flushes_total", "flushes",
			"Flushes of the members' caches, before chunks are called clean.");
		counter("llbitmap_waits_total", "waits",
			"Times that a write slept until another's bitmap write was done.");
		seconds("llbitmap_wait_seconds_total", "wait_ns_total", "How long these slept.");
		return out_;
	}

    private:
	const std::vector<Judged> &all_;
	std::string out_, name_;

	static std::string device(const Running &a) { return "device=\"" + label(a.name) + "\""; }

	void begin(const char *name, const char *help, const char *type = "gauge")
	{
		name_ = name;
		out_ += "# HELP " + name_ + ' ' + help + "\n# TYPE " + name_ + ' ' + type + '\n';
	}

	void sample(const std::string &labels, const std::string &value)
	{
		out_ += name_ + (labels.empty() ? "" : '{' + labels + '}') + ' ' + value + '\n';
	}

	void sample(const std::string &labels, u64 value) { sample(labels, std::to_string(value)); }

	// Since the bitmap was loaded, of the module's own count of that name.
	void counter(const char *name, const char *stat, const char *help)
	{
		begin(name, help, "counter");
		for (const Judged &one : all_) {
			if (std::optional<u64> v = one.array.stat(stat))
				sample(device(one.array), *v);
		}
	}

	void seconds(const char *name, const char *stat, const char *help)
	{
		constexpr u64 kSecond_ns = 1000000000;
		begin(name, help, "counter");
		for (const Judged &one : all_) {
			if (std::optional<u64> v = one.array.stat(stat))
				sample(device(one.array), text_of(*v / kSecond_ns, *v % kSecond_ns));
		}
	}

	static std::string text_of(u64 whole, u64 ns)
	{
		std::string digits = std::to_string(ns);
		return std::to_string(whole) + '.' + std::string(9 - digits.size(), '0') + digits;
	}

	void each(const char *name, const char *help,
		  const std::function<std::optional<u64>(const Running &)> &value)
	{
		begin(name, help);
		for (const Judged &one : all_) {
			if (std::optional<u64> v = value(one.array))
				sample(device(one.array), *v);
		}
	}
};

[[noreturn]] void broken(const std::string &path)
{
	std::string why = strerror(errno);
	unlink(path.c_str());
	throw Error(kBroken, path + ": " + why);
}

// Who reads the file sees the old one or the new one, in full.
void replace(const std::string &path, const std::string &text)
{
	// A name of its own: nothing else may be written to, and two may run at once. It must
	// not end in .prom: node_exporter reads all that does.
	std::string fresh = path + ".XXXXXX";
	int fd = mkostemp(fresh.data(), O_CLOEXEC);
	if (fd < 0)
		throw Error(kBroken, path + ": " + strerror(errno));
	for (size_t done = 0; done < text.size();) {
		ssize_t got = write(fd, text.data() + done, text.size() - done);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			int why = errno;
			close(fd);
			errno = why;
			broken(fresh);
		}
		done += size_t(got);
	}
	bool bad = fchmod(fd, 0644) || fsync(fd);
	bad |= close(fd) != 0;
	if (bad || rename(fresh.c_str(), path.c_str()))
		broken(fresh);
}

} // namespace

int metrics(const std::vector<std::string> &arrays, const std::string &output)
{
	std::string text = Metrics(judged(arrays)).text();
	if (output.empty())
		fwrite(text.data(), 1, text.size(), stdout);
	else
		replace(output, text);
	return kDone;
}

} // namespace tool
