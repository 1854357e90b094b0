import type { PlanAnnotation } from '../group/plan-annotation.ts';
import { believedPlan, type PodInfo } from '../group/pod-info.ts';
import type { AssumedPlan } from './group-view.ts';

/** Plans and pins that Berth has given and that no watch has shown yet, by UID of the leader or pod. */
export class Assumptions {
  readonly #plans = new Map<string, AssumedPlan>();
  readonly #pins = new Map<string, string>();

  plan(uid: string): AssumedPlan | undefined {
    return this.#plans.get(uid);
  }

  pin(uid: string): string | undefined {
    return this.#pins.get(uid);
  }

  assumePlan(uid: string, plan: PlanAnnotation): void {
    this.#plans.set(uid, { plan, written: false });
  }

  assumePin(uid: string, node: string): void {
    this.#pins.set(uid, node);
  }

  /** The API server has it. False when another one is assumed by now, or none. */
  confirmPlan(uid: string, plan: PlanAnnotation): boolean {
    if (this.#plans.get(uid)?.plan !== plan) return false;
    this.#plans.set(uid, { plan, written: true });
    return true;
  }

  /** False when there was none. */
  forgetPlan(uid: string): boolean {
    return this.#plans.delete(uid);
  }

  forgetPin(uid: string): boolean {
    return this.#pins.delete(uid);
  }

  /** Drops what the pod itself shows by now. */
  seen(pod: PodInfo): void {
    const plan = believedPlan(pod);
    const assumed = this.#plans.get(pod.uid);
    if (plan !== undefined && assumed !== undefined && plan.generation >= assumed.plan.generation)
      this.#plans.delete(pod.uid);
    if (pod.pinnedTo !== undefined || pod.nodeName !== undefined) this.#pins.delete(pod.uid);
  }

  forget(uid: string): void {
    this.#plans.delete(uid);
    this.#pins.delete(uid);
  }
}
