// SPDX-License-Identifier: GPL-2.0
// The commands of the tool on members whose superblocks, bitmaps and bad-block logs were
// changed at random, in one process and under the sanitizers.
//
//   fuzz FOLDER SEED FIRST COUNT
//
// FOLDER holds a folder for each array, with its members m0, m1, ... (test_images.py makes
// them); they are changed and put back. Case N depends on SEED and N alone: what fails is
// replayed with FIRST = N, COUNT = 1. Of each command is asked:
//   * it ends as documented: one of its statuses, no other exception;
//   * nothing is written unless it says so; never outside of what lies between md's
//     superblock and the data, and never beyond the end of a file;
//   * what it prints is lines of printable characters, or JSON;
//   * it allocates no more than 160 MiB at once, and reads no more than 400 MiB.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#include "tool/convert.hpp"
#include "tool/error.hpp"
#include "tool/examine.hpp"
#include "tool/member.hpp"
#include "tool/mend.hpp"

extern "C" const char *__asan_default_options()
{
	return "max_allocation_size_mb=160:allocator_may_return_null=0:detect_leaks=1";
}

extern "C" void __sanitizer_set_death_callback(void (*callback)());

namespace {

constexpr size_t kHead =
	1 << 20; // bytes that are put back and compared; the images' data begins there, or before
constexpr u64 kReadMax = 400 << 20;
constexpr u32 kSuper = 8 * 512, kBitmap = 16 * 512;

std::string where; // how to replay
int terminal = 2; // stderr as it was

void tell_where()
{
	dprintf(terminal, "fuzz: in case %s\n", where.c_str());
}

[[noreturn]] void wrong(const std::string &why)
{
	dprintf(terminal, "fuzz: %s\n", why.c_str());
	tell_where();
	_exit(1);
}

std::vector<u8> content(const std::string &path)
{
	int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
	std::vector<u8> head(kHead);
	ssize_t got = fd < 0 ? -1 : pread(fd, head.data(), kHead, 0);
	if (got < 0)
		wrong(path + ": cannot be read");
	head.resize(size_t(got));
	close(fd);
	return head;
}

void put_back(const std::string &path, const std::vector<u8> &now, const std::vector<u8> &head)
{
	int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
	for (size_t at = 0; at < head.size(); at += 4096) {
		size_t length = std::min<size_t>(4096, head.size() - at);
		if (memcmp(now.data() + at, head.data() + at, length) &&
		    pwrite(fd, head.data() + at, length, off_t(at)) != ssize_t(length))
			wrong(path + ": cannot be written");
	}
	close(fd);
}

struct Template {
	std::string name;
	std::vector<std::string> paths;
	std::vector<std::vector<u8>> heads;
};

u32 get32(const std::vector<u8> &raw, size_t at)
{
	u32 v;
	memcpy(&v, &raw[at], 4);
	return v;
}

// The sum of md's superblock made right, so that what follows it is reached.
void sum(std::vector<u8> &head)
{
	u32 devices = std::min<u32>(get32(head, kSuper + 220), 1920);
	u64 total = 0;
	for (u32 at = 0; at + 4 <= 256 + 2 * devices; at += 4)
		total += at == 216 ? 0 : get32(head, kSuper + at);
	if (devices % 2)
		total += head[kSuper + 256 + 2 * devices - 2] | head[kSuper + 256 + 2 * devices - 1] << 8;
	u32 value = u32(total) + u32(total >> 32);
	memcpy(&head[kSuper + 216], &value, 4);
}

void change(std::mt19937_64 &random, std::vector<u8> &head)
{
	auto pick = [&](u64 below) { return random() % below; };
	constexpr u64 values[] = {0,	      1,	  2,	      3,	  7,	      8,
				  15,	      16,	  100,	      127,	  128,	      255,
				  256,	      512,	  1023,	      4096,	  16383,      16384,
				  0xffff,     1 << 17,	  1 << 20,    1 << 27,	  1 << 30,    0x7fffffff,
				  1ull << 31, 0xffffffff, 1ull << 32, 1ull << 33, 1ull << 52, 1ull << 55,
				  1ull << 60, 1ull << 62, 1ull << 63, ~0ull};
	for (u64 n = 1 + pick(4); n; n--) {
		size_t at;
		switch (pick(8)) {
		case 0:
		case 1:
		case 2:
			at = kSuper + pick(260) / 4 * 4; // a field of md's superblock
			break;
		case 3:
			at = kSuper + pick(512);
			break;
		case 4:
		case 5:
			at = kBitmap + pick(76) / 4 * 4; // a field of the bitmap's header
			break;
		case 6:
			at = kBitmap + pick(2048); // state bytes, bits
			break;
		default:
			at = 24 * 512 + pick(4096); // where mdadm puts the bad-block log
			break;
		}
		u64 value = pick(3) ? values[pick(std::size(values))] : random();
		size_t length = size_t{1} << pick(4);
		memcpy(&head[at], &value, length);
	}
	if (pick(12))
		sum(head);
}

u64 bytes_read()
{
	char text[256] = {};
	int fd = open("/proc/self/io", O_RDONLY | O_CLOEXEC);
	ssize_t got = read(fd, text, sizeof(text) - 1);
	close(fd);
	return got > 7 ? strtoull(text + 7, nullptr, 10) : 0;
}

std::string printed(int fd)
{
	fflush(stdout);
	fflush(stderr);
	off_t size = lseek(fd, 0, SEEK_CUR);
	std::string text(size_t(size), 0);
	if (pread(fd, text.data(), text.size(), 0) != ssize_t(text.size()) || ftruncate(fd, 0) ||
	    lseek(fd, 0, SEEK_SET))
		wrong("what was printed cannot be read");
	return text;
}

bool touched(const std::string &path)
{
	struct stat st;
	return stat(path.c_str(), &st) || st.st_mtim.tv_sec != 1;
}

struct Case {
	Template &t;
	int out, err; // memory files that stand for stdout and stderr
	std::map<int, u64> statuses;

	void old_times()
	{
		const timespec times[2] = {{1, 0}, {1, 0}};
		for (const std::string &path : t.paths)
			utimensat(AT_FDCWD, path.c_str(), times, 0);
	}

	// Returns the status.
	int run(const std::string &what, bool json, const std::function<int()> &command)
	{
		old_times();
		u64 before = bytes_read();
		int status;
		try {
			status = command();
		} catch (const tool::Error &error) {
			status = error.status;
			if (!error.what()[0])
				wrong(what + ": an error without a word");
		} catch (const std::exception &error) {
			wrong(what + ": " + error.what());
		}
		statuses[status]++;
		u64 bytes = bytes_read() - before;
		if (bytes > kReadMax)
			wrong(what + ": read " + std::to_string(bytes) + " bytes");
		std::string text = printed(out) + printed(err);
		for (char c : text) {
			if ((u8(c) < 0x20 && c != '\n') || c == 0x7f)
				wrong(what + ": printed a control character");
		}
		if (json && (status == tool::kDone || status == tool::kDamaged) && text[0] == '{' &&
		    !nlohmann::json::accept(text))
			wrong(what + ": no JSON");
		return status;
	}

	void untouched(const std::string &what)
	{
		for (const std::string &path : t.paths) {
			if (touched(path))
				wrong(what + ": wrote to " + path);
		}
	}

	// Every command that writes nothing; one of them prints what it would write, which is
	// long.
	void looks(u64 random)
	{
		for (const std::string &path : t.paths) {
			int status = run("examine", false, [&] { return tool::examine({path}, false); });
			if (status != tool::kDone && status != tool::kDamaged && status != tool::kUnreadable)
				wrong("examine: status " + std::to_string(status));
		}
		run("examine --json", true, [&] { return tool::examine(t.paths, true); });
		const char *tos[] = {"lockless", "internal", "none"};
		for (u64 i = 0; i < 3; i++) {
			bool json = random % 16 == i;
			run("convert --dry-run", json, [&] {
				return tool::convert(
					{.to = tos[i], .paths = t.paths, .dry_run = true, .json = json});
			});
		}
		bool json = random % 16 == 3;
		run("mend --dry-run", json,
		    [&] { return tool::mend({.paths = t.paths, .as = "", .dry_run = true, .json = json}); });
		untouched("a look");
	}

	void writes(const std::vector<std::vector<u8>> &heads, u64 which)
	{
		std::vector<u64> starts, ends; // bytes, of what may be written to
		for (const std::string &path : t.paths) {
			try {
				auto m = tool::Member::read(tool::Device(path, tool::Device::Use::Look));
				starts.push_back(m.super.start * 512);
				ends.push_back(m.super.minor ? m.super.data_offset * 512
							     : m.super.start * 512 + 4096);
			} catch (const tool::Error &) {
				starts.push_back(0);
				ends.push_back(0);
			}
		}
		const char *tos[] = {"lockless", "internal", "none"};
		std::string what = which < 3 ? std::string("convert --to ") + tos[which] : "mend";
		int status = run(what, false, [&] {
			return which < 3 ? tool::convert({.to = tos[which], .paths = t.paths})
					 : tool::mend({.paths = t.paths,
						       .as = which == 3 ? "" : "lockless",
						       .yes = true});
		});
		if (status == tool::kRefused || status == tool::kUnreadable || status == tool::kUsage)
			untouched(what);
		else if (status != tool::kDone)
			wrong(what + ": status " + std::to_string(status));
		std::vector<bool> written; // asked of all before run() sets their times again
		for (const std::string &path : t.paths)
			written.push_back(touched(path));
		for (size_t i = 0; i < t.paths.size(); i++) {
			if (!written[i])
				continue;
			std::vector<u8> now = content(t.paths[i]);
			if (now.size() != heads[i].size())
				wrong(what + ": changed the size of a file");
			size_t from = std::min<size_t>(starts[i], now.size());
			size_t to = std::min<size_t>(std::max(starts[i], ends[i]), now.size());
			if (memcmp(now.data(), heads[i].data(), from) ||
			    memcmp(now.data() + to, heads[i].data() + to, now.size() - to))
				wrong(what + ": wrote elsewhere to " + t.paths[i]);
			int after = run(what + ", examine", false,
					[&] { return tool::examine({t.paths[i]}, false); });
			if (after != tool::kDone && after != tool::kDamaged)
				wrong(what + ": cannot be examined afterwards");
			put_back(t.paths[i], now, heads[i]);
		}
	}
};

std::vector<Template> templates(const std::string &folder)
{
	std::vector<std::string> names;
	DIR *dir = opendir(folder.c_str());
	while (dirent *entry = dir ? readdir(dir) : nullptr) {
		if (entry->d_name[0] != '.')
			names.push_back(entry->d_name);
	}
	if (dir)
		closedir(dir);
	std::sort(names.begin(), names.end());
	std::vector<Template> all;
	for (const std::string &name : names) {
		Template t{name, {}, {}};
		for (int n = 0;; n++) {
			std::string path = folder + "/" + name + "/m" + std::to_string(n);
			if (access(path.c_str(), R_OK))
				break;
			t.paths.push_back(path);
			t.heads.push_back(content(path));
		}
		if (!t.paths.empty())
			all.push_back(t);
	}
	return all;
}

} // namespace

int main(int argc, char **argv)
{
	if (argc != 5) {
		fprintf(stderr, "usage: fuzz FOLDER SEED FIRST COUNT\n");
		return 2;
	}
	u64 seed = strtoull(argv[2], nullptr, 0), first = strtoull(argv[3], nullptr, 0),
	    count = strtoull(argv[4], nullptr, 0);
	auto all = templates(argv[1]);
	if (all.empty() || !count)
		wrong("no members, or no case");
	terminal = dup(2);
	__sanitizer_set_death_callback(tell_where);
	int result = dup(1), out = memfd_create("out", 0), err = memfd_create("err", 0);
	dup2(out, 1);
	dup2(err, 2);
	std::map<int, u64> statuses;
	u64 written = 0;
	for (u64 n = first; n < first + count; n++) {
		std::mt19937_64 random(seed * 1000003 + n);
		Template &t = all[random() % all.size()];
		where = std::string(argv[2]) + " " + std::to_string(n) + " 1 (" + t.name + ")";
		auto heads = t.heads;
		bool alike = random() % 3 == 0; // the same damage on all of them
		u64 same = random();
		size_t only = random() % heads.size();
		for (size_t i = 0; i < heads.size(); i++) {
			std::mt19937_64 own(alike ? same : random());
			if (alike || i == only)
				change(own, heads[i]);
			put_back(t.paths[i], t.heads[i], heads[i]);
		}
		Case c{t, out, err, {}};
		c.looks(random());
		c.writes(heads, n % 5); // two of the five that write, in turn
		c.writes(heads, (n + 2) % 5);
		for (size_t i = 0; i < heads.size(); i++)
			put_back(t.paths[i], heads[i], t.heads[i]);
		for (auto [status, times] : c.statuses)
			statuses[status] += times;
		written++;
	}
	// Cases that only ever end in one way would show nothing.
	dprintf(result, "%llu cases, seed %llu: done %llu, damaged %llu, unreadable %llu, refused %llu\n",
		(unsigned long long)written, (unsigned long long)seed, (unsigned long long)statuses[0],
		(unsigned long long)statuses[1], (unsigned long long)statuses[3],
		(unsigned long long)statuses[4]);
	return 0;
}
