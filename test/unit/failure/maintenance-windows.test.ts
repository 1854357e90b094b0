import t from 'tap';
import {
  faultOfWindow,
  MaintenanceCalendar,
  type MaintenanceWindow,
} from '../../../src/failure/maintenance-windows.ts';

const minuteMs = 60_000;
const saturdays: MaintenanceWindow = { cron: '0 2 * * 6', durationMinutes: 120, timeZone: 'UTC' };

/** Minutes for which one of the windows is open still. */
function openAt(time: string, ...windows: readonly MaintenanceWindow[]): number {
  return new MaintenanceCalendar(windows).openForMs(Date.parse(time)) / minuteMs;
}

t.test('a window is open from its time on for as long as it lasts, and not a moment longer', async t => {
  t.equal(openAt('2026-01-03T01:59:59.999Z', saturdays), 0);
  t.equal(openAt('2026-01-03T02:00:00Z', saturdays), 120);
  t.equal(openAt('2026-01-03T03:30:00Z', saturdays), 30);
  t.equal(openAt('2026-01-03T03:59:59.400Z', saturdays), 0.01);
  t.equal(openAt('2026-01-03T04:00:00Z', saturdays), 0);
  t.equal(openAt('2026-01-04T02:00:00Z', saturdays), 0, 'a Sunday');
});

t.test('it is meant in its own time zone, summer and winter', async t => {
  const berlin = { ...saturdays, timeZone: 'Europe/Berlin' };
  t.equal(openAt('2026-01-03T01:00:00Z', berlin), 120);
  t.equal(openAt('2026-07-04T00:00:00Z', berlin), 120);
  t.equal(openAt('2026-07-04T02:00:00Z', berlin), 0);
  const nightly = { cron: '30 2 * * *', durationMinutes: 60, timeZone: 'Europe/Berlin' };
  t.equal(
    openAt('2026-03-29T01:00:00Z', nightly),
    60,
    'the hour that summer time leaves out comes right after',
  );
});

t.test('of several windows the one counts that closes last', async t => {
  const long = { cron: '0 1 * * *', durationMinutes: 240, timeZone: 'UTC' };
  t.equal(openAt('2026-01-03T03:00:00Z', saturdays, long), 120);
  t.equal(openAt('2026-01-03T03:00:00Z', long, saturdays), 120);
  t.equal(openAt('2026-01-03T03:00:00Z'), 0);
  const always = { cron: '* * * * *', durationMinutes: 1, timeZone: 'UTC' };
  for (const second of ['00', '30', '59'])
    t.not(openAt(`2026-01-03T12:00:${second}Z`, always), 0, 'one that follows upon itself is never closed');
});

t.test('one calendar is asked at ever other times, forward and back', async t => {
  const calendar = new MaintenanceCalendar([saturdays]);
  const ask = (time: string) => calendar.openForMs(Date.parse(time)) / minuteMs;
  t.same(
    ['2026-01-03T02:00:00Z', '2026-01-03T02:00:30Z', '2026-01-03T04:00:00Z', '2026-01-03T03:59:00Z'].map(ask),
    [120, 119.5, 0, 1],
  );
});

t.test('what is no window is told with the field at fault', async t => {
  const cases: readonly (readonly [Partial<MaintenanceWindow>, string, RegExp])[] = [
    [{ cron: '61 2 * * 6' }, 'cron', /five fields.*minute: 61/],
    [{ cron: '0 0 2 * * 6' }, 'cron', /five fields/],
    [{ cron: '' }, 'cron', /five fields/],
    [{ cron: '2026-01-03T02:00:00' }, 'cron', /five fields/],
    [{ cron: '@reboot' }, 'cron', /five fields/],
    [{ cron: '0 0 30 2 *' }, 'cron', /never comes/],
    [{ timeZone: 'Berlin' }, 'timeZone', /such as Europe\/Berlin/],
    [{ timeZone: '' }, 'timeZone', /such as/],
  ];
  for (const [change, field, rule] of cases) {
    const fault = faultOfWindow({ ...saturdays, ...change });
    t.equal(fault?.field, field, JSON.stringify(change));
    t.match(fault?.rule, rule, JSON.stringify(change));
  }
  for (const cron of ['0 2 * * 6', '*/15 0-4 1,15 * MON-FRI', '@daily', '0 0 29 2 *'])
    t.equal(faultOfWindow({ ...saturdays, cron }), undefined, cron);
});
