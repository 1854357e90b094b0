import jsonPatch, { type Operation } from 'fast-json-patch';
import { parse, parseAllDocuments, stringify } from 'yaml';

/** Texts of the LWS module's `config` folder. */
export interface LwsWebhookSources {
  /** config/webhook/manifests.yaml */
  readonly manifests: string;
  /** config/webhook/mutating-patch.yaml and validating-patch.yaml: they bring the objectSelectors. */
  readonly mutatingPatch: string;
  readonly validatingPatch: string;
}

interface Webhook {
  readonly name: string;
  readonly clientConfig: { readonly service?: { readonly path?: string } };
}

interface WebhookConfiguration {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly webhooks: readonly Webhook[];
}

const namePrefix = 'lws-';
export const lwsNamespace = 'lws-system';
export const lwsServiceAccount = 'lws-controller-manager';

/**
 * What kustomize makes of the LWS webhook manifests, with two changes for a manager that runs as a plain process:
 * webhooks are called by URL, and the bed's authority is trusted.
 *
 * @param baseUrl of the manager's webhook server, without a slash at the end
 */
export function lwsWebhookConfigurations(sources: LwsWebhookSources, baseUrl: string, caPem: string): string {
  const patches: Readonly<Record<string, string>> = {
    MutatingWebhookConfiguration: sources.mutatingPatch,
    ValidatingWebhookConfiguration: sources.validatingPatch,
  };
  return parseAllDocuments(sources.manifests)
    .filter(document => document.contents !== null)
    .map(document => {
      const original: WebhookConfiguration = document.toJS();
      const patch: Operation[] = parse(patches[original.kind] ?? '[]');
      const patched: WebhookConfiguration = jsonPatch.applyPatch(original, patch, true, false).newDocument;
      return stringify({
        ...patched,
        metadata: { ...patched.metadata, name: `${namePrefix}${patched.metadata.name}` },
        webhooks: patched.webhooks.map(webhook => calledByUrl(webhook, baseUrl, caPem)),
      });
    })
    .join('---\n');
}

/** Namespace, service account and rights of the manager: the module's own role, bound as its kustomization does. */
export function lwsAccess(roleYaml: string): string {
  const role = parse(roleYaml);
  const roleName = `${namePrefix}${role.metadata.name}`;
  return [
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: lwsNamespace } },
    {
      apiVersion: 'v1',
      kind: 'ServiceAccount',
      metadata: { name: lwsServiceAccount, namespace: lwsNamespace },
    },
    { ...role, metadata: { name: roleName } },
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'ClusterRoleBinding',
      metadata: { name: `${namePrefix}manager-rolebinding` },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: roleName },
      subjects: [{ kind: 'ServiceAccount', name: lwsServiceAccount, namespace: lwsNamespace }],
    },
  ]
    .map(object => stringify(object))
    .join('---\n');
}

function calledByUrl(webhook: Webhook, baseUrl: string, caPem: string): Record<string, unknown> {
  const path = webhook.clientConfig.service?.path;
  if (path === undefined) throw new Error(`webhook ${webhook.name} of LWS names no service path`);
  const clientConfig = { url: `${baseUrl}${path}`, caBundle: Buffer.from(caPem).toString('base64') };
  return { ...webhook, clientConfig };
}
