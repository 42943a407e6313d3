// SPDX-License-Identifier: GPL-2.0
#include "tool/system.hpp"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

namespace tool {

namespace {

// Until it ends, or has said too much.
std::string read_all(int fd, size_t most)
{
	std::string text;
	char piece[65536];
	while (text.size() < most) {
		ssize_t got = read(fd, piece, std::min(sizeof(piece), most - text.size()));
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		text.append(piece, size_t(got));
	}
	return text;
}

constexpr size_t kMostSaid = size_t{64} << 20;

} // namespace

std::string at(const std::string &path)
{
	const char *root = getenv("LLBITMAP_ROOT");
	return root ? root + path : path;
}

std::optional<std::string> file_text(const std::string &path, size_t most)
{
	int fd = open(at(path).c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return {};
	struct stat st;
	bool file = !fstat(fd, &st) && S_ISREG(st.st_mode);
	std::string text = file ? read_all(fd, most) : "";
	close(fd);
	return file ? std::optional(text) : std::nullopt;
}

std::string file_line(const std::string &path)
{
	std::string text = file_text(path, 4096).value_or("");
	return trimmed(text.substr(0, text.find('\n')));
}

std::optional<u64> number(const std::string &text)
{
	if (text.empty() || text.size() > 19 ||
	    !std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; }))
		return {};
	return strtoull(text.c_str(), nullptr, 10);
}

std::optional<u64> file_number(const std::string &path)
{
	return number(file_line(path));
}

std::vector<std::string> names_in(const std::string &path)
{
	std::vector<std::string> names;
	DIR *folder = opendir(at(path).c_str());
	if (!folder)
		return names;
	while (dirent *one = readdir(folder)) {
		std::string name = one->d_name;
		if (name != "." && name != "..")
			names.push_back(name);
	}
	closedir(folder);
	std::sort(names.begin(), names.end(), before);
	return names;
}

bool exists(const std::string &path)
{
	struct stat st;
	return !stat(at(path).c_str(), &st);
}

bool is_folder(const std::string &path)
{
	struct stat st;
	return !stat(at(path).c_str(), &st) && S_ISDIR(st.st_mode);
}

s64 changed_at(const std::string &path)
{
	struct stat st;
	return stat(at(path).c_str(), &st) ? 0 : s64(st.st_mtime);
}

std::string block_device(const std::string &path)
{
	char *found = realpath(at(path).c_str(), nullptr);
	const std::string real = found ? found : "";
	free(found);
	struct stat st;
	if (real.empty() || stat(real.c_str(), &st)) {
		// A node may be missing; nothing else is called so.
		return path.starts_with("/dev/") && path.find('/', 5) == path.npos ? path.substr(5) : "";
	}
	if (getenv("LLBITMAP_ROOT")) { // there, whatever lies in /dev is a device
		found = realpath(at("/dev").c_str(), nullptr);
		const std::string folder = std::string(found ? found : "") + '/';
		free(found);
		return real.starts_with(folder) && real.find('/', folder.size()) == real.npos
			       ? real.substr(folder.size())
			       : "";
	}
	if (!S_ISBLK(st.st_mode))
		return "";
	const std::string number =
		std::to_string(major(st.st_rdev)) + ':' + std::to_string(minor(st.st_rdev));
	for (const std::string &name : names_in("/sys/class/block")) {
		if (file_line("/sys/class/block/" + name + "/dev") == number)
			return name;
	}
	return "";
}

bool before(const std::string &one, const std::string &other)
{
	auto digit = [](char c) { return c >= '0' && c <= '9'; };
	auto tilde = [](const std::string &text, size_t k) { return k < text.size() && text[k] == '~'; };
	size_t i = 0, j = 0;
	while (i < one.size() && j < other.size()) {
		if (!digit(one[i]) || !digit(other[j])) {
			if (one[i] != other[j])
				return tilde(one, i) || (!tilde(other, j) && u8(one[i]) < u8(other[j]));
			i++, j++;
			continue;
		}
		auto number_at = [&](const std::string &text, size_t &k) {
			while (k < text.size() && text[k] == '0')
				k++;
			size_t start = k;
			while (k < text.size() && digit(text[k]))
				k++;
			return text.substr(start, k - start);
		};
		std::string a = number_at(one, i), b = number_at(other, j);
		if (a.size() != b.size())
			return a.size() < b.size();
		if (a != b)
			return a < b;
	}
	if (tilde(one, i) != tilde(other, j))
		return tilde(one, i); // before the end, too
	if (one.size() - i != other.size() - j)
		return one.size() - i < other.size() - j;
	return one < other; // "01" and "1"
}

std::string trimmed(const std::string &text)
{
	constexpr const char *blanks = " \t\r\n";
	size_t from = text.find_first_not_of(blanks);
	return from == text.npos ? "" : text.substr(from, text.find_last_not_of(blanks) - from + 1);
}

std::vector<std::string> words(const std::string &text)
{
	std::vector<std::string> found;
	for (size_t i = 0; i < text.size();) {
		size_t end = i;
		while (end < text.size() && !isspace(u8(text[end])))
			end++;
		if (end > i)
			found.push_back(text.substr(i, end - i));
		i = end + 1;
	}
	return found;
}

std::vector<std::string> lines(const std::string &text)
{
	std::vector<std::string> found;
	for (size_t i = 0; i < text.size();) {
		size_t end = std::min(text.find('\n', i), text.size());
		found.push_back(text.substr(i, end - i));
		i = end + 1;
	}
	return found;
}

namespace {

// Where programs are looked for: not every user has root's folders.
std::string program_path()
{
	const char *path = getenv("PATH");
	const std::string own = path ? path : "/usr/bin:/bin";
	return getenv("LLBITMAP_ROOT") ? own : own + ":/usr/sbin:/sbin";
}

[[noreturn]] void become(const std::vector<std::string> &command)
{
	setenv("PATH", program_path().c_str(), 1);
	std::vector<char *> arguments;
	for (const std::string &word : command)
		arguments.push_back(const_cast<char *>(word.c_str()));
	arguments.push_back(nullptr);
	execvp(arguments[0], arguments.data());
	_exit(kNoProgram);
}

} // namespace

bool have_program(const std::string &name)
{
	const std::string path = program_path();
	for (size_t from = 0; from <= path.size();) {
		size_t end = std::min(path.find(':', from), path.size());
		if (!access((path.substr(from, end - from) + '/' + name).c_str(), X_OK))
			return true;
		from = end + 1;
	}
	return false;
}

int run_program(const std::vector<std::string> &command)
{
	pid_t child = fork();
	if (child < 0)
		return kNoProgram;
	if (child == 0) {
		int nothing = open("/dev/null", O_RDONLY);
		dup2(nothing, 0);
		become(command);
	}
	int how;
	while (waitpid(child, &how, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(how) ? WEXITSTATUS(how) : 128 + WTERMSIG(how);
}

std::optional<std::string> said_by(const std::vector<std::string> &command, Ends ends_how, Hears hears)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC))
		return {};
	pid_t child = fork();
	if (child < 0) {
		close(ends[0]);
		close(ends[1]);
		return {};
	}
	if (child == 0) {
		int nothing = open("/dev/null", O_RDWR);
		dup2(nothing, 0);
		dup2(ends[1], 1);
		dup2(hears == Hears::Both ? ends[1] : nothing, 2);
		setenv("LC_ALL", "C", 1);
		become(command);
	}
	close(ends[1]);
	std::string text = read_all(ends[0], kMostSaid);
	close(ends[0]);
	int how;
	while (waitpid(child, &how, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(how) || WEXITSTATUS(how) == kNoProgram || (WEXITSTATUS(how) && ends_how == Ends::Well))
		return {};
	return text;
}

} // namespace tool
