// SPDX-License-Identifier: GPL-2.0
#include "core/alarm.hpp"

namespace core {

u32 Alarm::pass_ms() const
{
	return base::max(sleep_ms() * 2 / 3, 1u);
}

void Alarm::arm(u32 delay_ms)
{
	// full: pairs with disarm(); a write either finds it disarmed or is seen by the scan
	// that follows there
	if (!armed_.exchange_full(1))
		plat_daemon_arm(host_, delay_ms);
}

void Alarm::arm_at_least(u32 delay_ms)
{
	armed_.exchange_full(1); // as in arm(); perhaps earlier than what is armed
	plat_daemon_arm(host_, delay_ms);
}

void Alarm::arm_for_sync()
{
	arm_at_least(base::min(idle_ms(), sleep_ms()));
}

void Alarm::want_sync()
{
	// relaxed: a hint; daemon_work() looks at the cells
	if (sync_wanted_.load_relaxed())
		return;
	sync_wanted_.exchange_full(1);
	arm_for_sync();
}

} // namespace core
