package controller

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// Expressions of config/rbac/agent_confinement.yaml. An installation may add to
// them what narrows further, never replace them.
const (
	isAnAgent = "request.userInfo.username == 'system:serviceaccount:%s:%s'"
	ownNode   = "request.userInfo.?extra['authentication.kubernetes.io/node-name'].orValue([]) == [request.name]"
)

// Confinement names the ValidatingAdmissionPolicy that keeps each agent to the
// object of its own node, and the ServiceAccount of the agents.
type Confinement struct {
	Policy         string
	Namespace      string
	ServiceAccount string
}

// problem is what keeps the policy from confining every agent, nil if nothing
// does. It reads only what is stored; whatever it does not know for harmless, it
// takes for a hole.
func (c Confinement) problem(policy *admissionv1.ValidatingAdmissionPolicy, bindings []admissionv1.ValidatingAdmissionPolicyBinding) error {
	if policy == nil {
		return fmt.Errorf("there is no ValidatingAdmissionPolicy %s", c.Policy)
	}
	if err := c.policyProblem(&policy.Spec); err != nil {
		return fmt.Errorf("the ValidatingAdmissionPolicy %s %w", c.Policy, err)
	}
	if !slices.ContainsFunc(bindings, func(b admissionv1.ValidatingAdmissionPolicyBinding) bool { return c.denies(&b.Spec) }) {
		return fmt.Errorf("no ValidatingAdmissionPolicyBinding makes the policy %s deny every request that it refuses", c.Policy)
	}
	return nil
}

func (c Confinement) policyProblem(spec *admissionv1.ValidatingAdmissionPolicySpec) error {
	agents := fmt.Sprintf(isAnAgent, c.Namespace, c.ServiceAccount)
	switch {
	case spec.FailurePolicy != nil && *spec.FailurePolicy != admissionv1.Fail:
		return fmt.Errorf("lets requests pass that it cannot judge: its failurePolicy is %s", *spec.FailurePolicy)
	case spec.ParamKind != nil:
		return errors.New("depends on parameters, which its bindings may not have: it has a paramKind")
	case !covers(spec.MatchConstraints):
		return errors.New("does not look at every operation on nodeimagecaches and nodeimagecaches/status")
	case slices.ContainsFunc(spec.MatchConditions, func(m admissionv1.MatchCondition) bool { return !sameExpression(m.Expression, agents) }):
		return fmt.Errorf("does not look at every request of the agents: its only match condition has to be %s", agents)
	case !slices.ContainsFunc(spec.Validations, func(v admissionv1.Validation) bool { return sameExpression(v.Expression, ownNode) }):
		return fmt.Errorf("does not demand %s", ownNode)
	default:
		return nil
	}
}

// denies tells whether a binding enforces the policy without exceptions.
func (c Confinement) denies(spec *admissionv1.ValidatingAdmissionPolicyBindingSpec) bool {
	return spec.PolicyName == c.Policy && slices.Contains(spec.ValidationActions, admissionv1.Deny) &&
		(spec.MatchResources == nil || len(spec.MatchResources.ResourceRules) == 0 && unrestricted(spec.MatchResources))
}

func covers(match *admissionv1.MatchResources) bool {
	if match == nil || !unrestricted(match) {
		return false
	}
	for _, resource := range []string{"nodeimagecaches", "nodeimagecaches/status"} {
		for _, operation := range []admissionv1.OperationType{admissionv1.Create, admissionv1.Update, admissionv1.Delete} {
			if !slices.ContainsFunc(match.ResourceRules, func(r admissionv1.NamedRuleWithOperations) bool {
				return ruleCovers(&r, resource, operation)
			}) {
				return false
			}
		}
	}
	return true
}

func ruleCovers(rule *admissionv1.NamedRuleWithOperations, resource string, operation admissionv1.OperationType) bool {
	group, _, _ := strings.Cut(v1alpha1.Prefix, "/")
	has := func(list []string, wanted ...string) bool {
		return slices.ContainsFunc(list, func(s string) bool { return slices.Contains(wanted, s) })
	}
	return len(rule.ResourceNames) == 0 && has(rule.APIGroups, group, "*") && has(rule.APIVersions, "*") &&
		has(rule.Resources, resource, "*/*") &&
		(rule.Scope == nil || *rule.Scope != admissionv1.NamespacedScope) &&
		(slices.Contains(rule.Operations, operation) || slices.Contains(rule.Operations, admissionv1.OperationAll))
}

// unrestricted tells whether nothing takes objects out of a match.
func unrestricted(match *admissionv1.MatchResources) bool {
	everything := func(s *metav1.LabelSelector) bool {
		return s == nil || len(s.MatchLabels) == 0 && len(s.MatchExpressions) == 0
	}
	return len(match.ExcludeResourceRules) == 0 && everything(match.NamespaceSelector) && everything(match.ObjectSelector)
}

// sameExpression compares CEL up to white space.
func sameExpression(a, b string) bool {
	return strings.Join(strings.Fields(a), " ") == strings.Join(strings.Fields(b), " ")
}
