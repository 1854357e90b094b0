import t from 'tap';
import { domainNamePattern, finestDomain, finestDomains } from '../../../src/failure/domains.ts';

const levels = [
  { name: 'zone', nodeLabel: 'zone' },
  { name: 'rack', nodeLabel: 'rack' },
];

t.test('a node stands in the domain of its finest level, told by the whole path', async t => {
  t.equal(finestDomain({ zone: 'us-a', rack: 'r0' }, levels), 'rack us-a/r0');
  t.equal(finestDomain({ rack: 'r0' }, levels), 'rack /r0', 'r0 of no zone is another r0');
  t.equal(finestDomain({ zone: 'us-a' }, levels), undefined);
  t.equal(finestDomain({ zone: 'us-a' }, levels.slice(0, 1)), 'zone us-a');
  t.equal(finestDomain({ zone: 'us-a' }, []), undefined);
  for (const labels of [{ zone: 'us-a', rack: 'r0' }, { rack: 'A_b.c' }])
    t.match(finestDomain(labels, levels), domainNamePattern, 'and is read back from a record');
});

t.test('a group over several domains stands in each, and a node in none adds none', async t => {
  const nodes = [
    { zone: 'b', rack: 'r0' },
    { zone: 'a', rack: 'r0' },
    { zone: 'b', rack: 'r0' },
    { zone: 'a' },
  ];
  t.same(finestDomains(nodes, levels), ['rack a/r0', 'rack b/r0']);
  t.same(finestDomains([], levels), []);
});
