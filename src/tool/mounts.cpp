// SPDX-License-Identifier: GPL-2.0
#include "tool/mounts.hpp"

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <cstring>

#include "tool/system.hpp"

namespace tool {

namespace {

// Is that one of the options, with a value or without?
bool has_option(const std::string &options, const std::string &named)
{
	const std::string all = ',' + options + ',', wanted = ',' + named;
	return all.find(wanted + ',') != all.npos || all.find(wanted + '=') != all.npos;
}

// systemd goes on without these: it mounts them when they are there, when they are used, or never.
bool waited_for(const std::string &options)
{
	static const char *const kNot[] = {"nofail", "noauto", "_netdev", "x-systemd.automount"};
	return std::none_of(std::begin(kNot), std::end(kNot),
			    [&](const char *one) { return has_option(options, one); });
}

std::string replaced(std::string text, const std::string &from, const std::string &to)
{
	for (size_t at = 0; (at = text.find(from, at)) != text.npos; at += to.size())
		text.replace(at, from.size(), to);
	return text;
}

// The path of what fstab's first field names. There a blank is \040, in udev's links \x20.
std::string path_of(const std::string &spec)
{
	static const struct {
		const char *tag, *folder;
	} kTags[] = {{"UUID=", "by-uuid"},
		     {"LABEL=", "by-label"},
		     {"PARTUUID=", "by-partuuid"},
		     {"PARTLABEL=", "by-partlabel"}};
	for (const auto &one : kTags) {
		if (!spec.starts_with(one.tag))
			continue;
		std::string value = spec.substr(strlen(one.tag));
		if (value.size() > 1 && value.front() == '"' && value.back() == '"')
			value = value.substr(1, value.size() - 2);
		return "/dev/disk/" + std::string(one.folder) + '/' + replaced(value, "\\040", "\\x20");
	}
	return replaced(spec, "\\040", " ");
}

// The disk that this partition is of.
std::string disk_of(const std::string &partition)
{
	char *found = realpath(at("/sys/class/block/" + partition + "/..").c_str(), nullptr);
	std::string disk = found ? found : "";
	free(found);
	return disk.substr(disk.rfind('/') + 1);
}

// A partition's disk, what is below a logical volume or an encrypted one.
std::set<std::string> made_of(const std::string &device)
{
	std::set<std::string> all;
	std::vector<std::string> next{device};
	while (!next.empty()) {
		const std::string one = next.back();
		next.pop_back();
		if (!all.insert(one).second)
			continue;
		const std::string folder = "/sys/class/block/" + one;
		for (const std::string &slave : names_in(folder + "/slaves"))
			next.push_back(slave);
		if (exists(folder + "/partition"))
			next.push_back(disk_of(one));
	}
	return all;
}

} // namespace

std::vector<Mount> boot_mounts()
{
	std::vector<Mount> mounts;
	for (const std::string &line : lines(file_text("/etc/fstab").value_or(""))) {
		const std::vector<std::string> w = words(line);
		if (w.size() < 4 || w[0][0] == '#' || w[1] == "/" || w[1] == "none" || w[2] == "swap" ||
		    !waited_for(w[3]))
			continue;
		const std::string device = block_device(path_of(w[0]));
		if (!device.empty())
			mounts.push_back({w[1], device, made_of(device)});
	}
	return mounts;
}

} // namespace tool
