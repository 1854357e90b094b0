/** One rule of the planner taken away or bent: a line of a file below src/, as it stands there once. */
export interface Mutant {
  readonly what: string;
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

function inFile(
  file: string,
  mutants: readonly (readonly [what: string, find: string, replace: string])[],
): Mutant[] {
  return mutants.map(([what, find, replace]) => ({ file: `planner/${file}.ts`, what, find, replace }));
}

export const mutants: readonly Mutant[] = [
  ...inFile('room', [
    ['forgets what the leader takes', 'loss = Math.min(loss, offer.workers - offer.beside);', 'loss = 0;'],
    [
      'charges the largest loss of any leader',
      'loss = Math.min(loss, offer',
      'loss = Math.max(loss === Infinity ? 0 : loss, offer',
    ],
    ['takes barred hosts for good ones in sums', 'counts[cell] = (counts[cell] ?? 0) - 1;', ''],
    ['gives places on barred hosts', 'return bars.has(node) ? undefined : offers', 'return offers'],
    [
      'counts one host too few',
      'const used = Math.min(count, Math.ceil(left / slots));',
      'const used = Math.min(count, Math.floor(left / slots) || 1);',
    ],
    ['takes every domain for a broken one', 'return touched[domain] === 0;', 'return false;'],
  ]),
  ...inFile('slice-units', [
    [
      'counts parts of slices',
      'const all = Math.min(most, Math.floor(workers / size));',
      'const all = Math.min(most, Math.ceil(workers / size));',
    ],
    [
      'puts slices together that want to be apart',
      'const most = apart ? 1 : Number.POSITIVE_INFINITY;',
      'const most = Number.POSITIVE_INFINITY;',
    ],
    [
      "puts a slice to the leader's that wants to be apart",
      'const others = apart && slices.besideLeader !== undefined ? 0 : most;',
      'const others = most;',
    ],
    [
      "gives the leader's slice no room",
      'Math.floor((beside - besideLeader) / size)',
      'Math.floor(beside / size)',
    ],
    ['puts slices where no domain has a name', 'if (isNamed(arrays, at)) add', 'if (at >= 0) add'],
    [
      'does not roll slices up',
      'for (let at = from; at >= 0; at = parent[at] ?? -1) {',
      'for (let at = from; at >= 0; at = -1) {',
    ],
  ]),
  ...inFile('slices', [
    ['takes unequal slices for equal ones', '|| others.some(ranks => ranks.length !== size)', ''],
    [
      "deals ranks out without the leader's slice first",
      '[...(besideLeader ?? []), ...others.flat()]',
      '[...others.flat(), ...(besideLeader ?? [])]',
    ],
  ]),
  ...inFile('confined-slices', [
    [
      'lets slices into domains of those that stay',
      'inner => !(slices.apart && taken.has(inner)),',
      '() => true,',
    ],
    ['lets a slice leave its members that stay', 'confined.set(copy, domain);', ''],
  ]),
  ...inFile('spread-over', [
    [
      'lets slices share a domain below their own',
      'if (slices.apart && slices.count + own > 1) return false;',
      '',
    ],
    ['looks for room without the leader', '(!spreading.withLeader || units.beside(domain) >= wanted) &&', ''],
    [
      'takes a host for the leader that has no room beside it',
      'return withLeader ? offer.beside >= workers : offer.workers >= workers;',
      'return withLeader ? offer.beside >= 0 && offer.workers >= workers : offer.workers >= workers;',
    ],
    ['forgets which domains have members', 'keptDomains.add(at);', ''],
    [
      'takes all hosts for touched ones',
      'const whole = room.offers[hostClass]?.whole ?? false;',
      'const whole = false;',
    ],
  ]),
  ...inFile('candidates', [
    [
      'takes a nameless domain for one',
      'return level < 0 || isNamed(arrays, ancestorAt(arrays, domain, level));',
      'return domain >= 0 || isNamed(arrays, ancestorAt(arrays, domain, level));',
    ],
    [
      'leaves members that stay behind',
      'for (const node of kept) if (node < start || node >= end) return false;',
      'if (start > end) for (const node of kept) if (node < start) return false;',
    ],
    [
      'takes the coarsest level first',
      'for (let level = spreading.room.arrays.tree.levels.length - 1; level >= requiredLevel; level--) {',
      'for (let level = requiredLevel; level < spreading.room.arrays.tree.levels.length; level++) {',
    ],
    ['looks above the required level', 'level >= requiredLevel; level--', 'level >= -1; level--'],
    ['never takes one host', 'if (onHost !== undefined) return onHost;', ''],
    [
      'takes any host that holds all',
      'const isWorthIt = offer?.whole === best.whole && offer.workers === best.workers;',
      'const isWorthIt = offer !== undefined && best.workers >= 0;',
    ],
    [
      'does not care for warm hosts',
      'for (const node of warm) if (node >= first && node < beyond && suits(node)) return node;',
      '',
    ],
  ]),
  ...inFile('objective', [
    [
      'opens sub-domains as it likes',
      "...(isLowest ? [] : [{ name: 'fewest domains of the next level', of: opened }]),",
      '',
    ],
    [
      'breaks whole domains first',
      '...wholeTerms(spreading, level, sign),\n    ...(isLowest',
      '...(isLowest',
    ],
    [
      'takes hosts as it likes',
      '...(isLowest ? hostCountTerm(spreading, opened) : [below]),',
      '...(isLowest ? [] : [below]),',
    ],
    [
      'opens whole sub-domains as it likes',
      'of: domain => sign * (choiceOf(domain)?.openedWhole ?? 0),',
      'of: () => 0,',
    ],
    [
      'takes roomy domains first',
      'of: domain => sign * workersIn(room, of[domain] ?? 0),',
      'of: domain => -sign * workersIn(room, of[domain] ?? 0),',
    ],
    [
      'packs where it is to spread',
      "const sign = objective.prefer === 'pack' ? 1 : -1;\n  const below",
      'const sign = 1;\n  const below',
    ],
    [
      'stands beside its siblings',
      'return siblings === undefined ? [] : [',
      'return siblings !== undefined ? [] : [',
    ],
  ]),
  ...inFile('choose-parts', [
    [
      'opens whole parts first',
      'for (let openedWhole = 0; openedWhole <= count; openedWhole++) {',
      'for (let openedWhole = count; openedWhole >= 0; openedWhole--) {',
    ],
    ['opens new parts before those of the group', 'kept: roomy.filter(part => part.kept),', 'kept: [],'],
    [
      'takes the tightest parts first',
      '.sort((a, b) => b.units - a.units);',
      '.sort((a, b) => a.units - b.units);',
    ],
    [
      'puts the leader to the first part that takes it',
      'if (best === undefined || isBetter(choice, leader, best.choice, best.leader)) best',
      'if (best === undefined) best',
    ],
  ]),
  ...inFile('slot-index', [
    ['does not roll counts up', 'at >= 0; at = parent[at] ?? -1) {', 'at >= 0; at = -1) {'],
    ['counts a changed host twice', 'this.#add(index, before, -1);', ''],
    [
      'does not see that a host has changed',
      'if (before === after) return;',
      'if (before !== after) return;',
    ],
    ['forgets the class of a changed host', '    this.#classOf[index] = after;', ''],
    [
      'takes a broken host for one of a class of whole ones',
      'const { workers, beside, whole, workerCause, leaderCause } = offer;',
      'const { workers, beside, workerCause, leaderCause } = offer; const whole = true;',
    ],
  ]),
  ...inFile('node-fit', [
    ["forgets the leader's host ports", '|| portsClash(worker.hostPorts, leader.hostPorts)', ''],
    [
      'gives a host port out twice',
      'fitDevices(node, demand, demand.hostPorts.length > 0 ? 1 : room)',
      'fitDevices(node, demand, room)',
    ],
    [
      'does not see host ports in use',
      'if (portsClash(demand.hostPorts, node.hostPorts)) {',
      'if (false as boolean) {',
    ],
    ['tolerates every taint', 'if (taint !== undefined) return', 'if (false as boolean) return'],
    ['does not read node selectors', "return 'node selector or affinity';", "return '';"],
    ['places on nodes that are not ready', "if (!record.ready) return 'not ready';", ''],
  ]),
  ...inFile('bars', [
    ['ignores excluded nodes', 'if (node !== undefined) bars.set(node, cause);', ''],
    ['leaves the label of those that stay', '.filter(part => kept.every(node => part.has(node)));', ';'],
    [
      'ignores labels to agree on',
      'if (topology.sameLabels.length === 0) return [undefined];',
      'return [undefined];',
    ],
  ]),
  ...inFile('plan-input', [
    ['lets members that stay tear slices', 'if (nodes.size > 0 && areSlicesTorn(input)) nodes.add(-1);', ''],
    [
      'takes a leader for a worker',
      'if (leader !== undefined && (worker === undefined || worker.key === leader.key))',
      'if (leader !== undefined && worker !== undefined)',
    ],
  ]),
  ...inFile('host-offer', [
    [
      'puts two workers on a host that repel each other',
      'const limit = rules.workersApart && keepsApart ? 1 : Number.POSITIVE_INFINITY;',
      'const limit = Number.POSITIVE_INFINITY;',
    ],
    ['puts a worker beside a leader that repels it', 'rules.leaderApart && keepsApart ? 0 : Math', 'Math'],
    [
      'does not ask other pods about workers',
      "plain.workerCause === '' ? rules.admitsWorker(node) : plain.workerCause",
      'plain.workerCause',
    ],
    [
      'does not ask other pods about the leader',
      'plain.leaderCause : rules.admitsLeader(node);',
      'plain.leaderCause : plain.leaderCause;',
    ],
  ]),
  ...inFile('inter-pod', [
    [
      'does not see the labels of equal members',
      'if (variants.size === new Set(demands.map(({ key }) => key)).size) return input;',
      'return input;',
    ],
    [
      'takes anti-affinity for one-sided',
      '(repels(snapshot, a, b) || repels(snapshot, b, a));',
      'repels(snapshot, a, b);',
    ],
  ]),
  ...inFile('plan', [
    [
      'does not check terms between members',
      'admitsEachInTurn(input, plan.nodes)) return plan;',
      'plan.nodes.length > 0) return plan;',
    ],
    [
      'takes the first label that does',
      '(chosen === undefined || compareCandidates(found, chosen) < 0)',
      'chosen === undefined',
    ],
  ]),
  ...inFile('plan-mixed', [
    [
      'searches the coarsest level first',
      'for (let level = input.snapshot.tree.levels.length; level >= required; level--) {',
      'for (let level = required; level <= input.snapshot.tree.levels.length; level++) {',
    ],
    ['does not ask whether a host takes a member', 'takes(rooms.get(demand), node),', 'true,'],
  ]),
  ...inFile('plan-in-turn', [
    [
      'leaves slices out of its search',
      'const { slices } = input.topology;\n  if (slices === undefined || placed',
      'const { slices } = input.topology;\n  if (slices !== undefined || placed',
    ],
    [
      'forgets what it has placed itself',
      'if (!fits(left, demandOn(info, demand).requests) || isRepelled',
      'if (isRepelled',
    ],
  ]),
  ...inFile('ranks', [
    [
      'seats ranks from the far end',
      'order: [...cellOf(share), -near(share), share.node]',
      'order: [...cellOf(share), near(share), share.node]',
    ],
  ]),
  ...inFile('constraints', [
    ["enters others' exclusive domains", '  barKept(bars, input);', ''],
    ['spreads over no level', 'if (spread?.required === true) {', 'if (spread?.required === undefined) {'],
    ['leaves its partner', 'if (sameDomainAs !== undefined) barAllBut(bars, input, sameDomainAs);', ''],
    [
      'mixes ComputeDomains',
      'if (computeDomain !== undefined) barOtherComputeDomains(bars, input, computeDomain);',
      '',
    ],
  ]),
  ...inFile('tpu-constraints', [
    [
      'takes TPU slices of unclear shape',
      "if (hosts === undefined) return 'in a TPU slice of unclear shape';",
      "if (hosts === undefined) return '';",
    ],
    [
      'takes TPU hosts in part',
      'if ([...chips].some(asked => asked !== chipsPerHost))',
      'if (chips.size === 0)',
    ],
    [
      'takes TPU slices of any size',
      'if (!wish.hosts.has(hosts)) return',
      'if (wish.hosts.size === 0) return',
    ],
  ]),
];
