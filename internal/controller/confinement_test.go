package controller

import (
	"bytes"
	"os"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// shipped reads the policy and the binding that are installed, so that they and
// what the manager looks for cannot drift apart.
func shipped(t *testing.T) (*admissionv1.ValidatingAdmissionPolicy, []admissionv1.ValidatingAdmissionPolicyBinding) {
	t.Helper()
	text, err := os.ReadFile("../../config/rbac/agent_confinement.yaml")
	if err != nil {
		t.Fatal(err)
	}
	parts := bytes.Split(text, []byte("\n---\n"))
	policy, bindings := &admissionv1.ValidatingAdmissionPolicy{}, make([]admissionv1.ValidatingAdmissionPolicyBinding, 1)
	if err := yaml.UnmarshalStrict(parts[0], policy); err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(parts[1], &bindings[0]); err != nil {
		t.Fatal(err)
	}
	return policy, bindings
}

func TestConfinement(t *testing.T) {
	t.Parallel()
	type policy = admissionv1.ValidatingAdmissionPolicySpec
	type binding = admissionv1.ValidatingAdmissionPolicyBindingSpec
	narrow := &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}
	labelled := &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: metav1.LabelSelectorOpExists}}}
	rule := func(p *policy) *admissionv1.NamedRuleWithOperations { return &p.MatchConstraints.ResourceRules[0] }
	for name, tt := range map[string]struct {
		policy  func(*policy)
		binding func(*binding)
		want    string // part of the problem; empty for none
	}{
		"as shipped":           {},
		"stricter":             {policy: func(p *policy) { p.Validations = append(p.Validations, admissionv1.Validation{Expression: "false"}) }},
		"of an older version":  {policy: func(p *policy) { p.Validations = p.Validations[:1] }},
		"for everybody":        {policy: func(p *policy) { p.MatchConditions = nil }},
		"laid out differently": {policy: func(p *policy) { p.Validations[0].Expression = "\n  " + p.Validations[0].Expression + "\n" }},
		"also audited":         {binding: func(b *binding) { b.ValidationActions = append(b.ValidationActions, admissionv1.Audit) }},

		"ignores failures":    {policy: func(p *policy) { p.FailurePolicy = new(admissionv1.Ignore) }, want: "failurePolicy is Ignore"},
		"allows all":          {policy: func(p *policy) { p.Validations[0].Expression = "true" }, want: "does not demand"},
		"demands nothing":     {policy: func(p *policy) { p.Validations = nil }, want: "does not demand"},
		"not about anything":  {policy: func(p *policy) { p.MatchConstraints = nil }, want: "every operation"},
		"not about status":    {policy: func(p *policy) { rule(p).Resources = []string{"nodeimagecaches"} }, want: "every operation"},
		"not about deletions": {policy: func(p *policy) { rule(p).Operations = []admissionv1.OperationType{"CREATE", "UPDATE"} }, want: "every operation"},
		"one version":         {policy: func(p *policy) { rule(p).APIVersions = []string{"v1"} }, want: "every operation"},
		"some names":          {policy: func(p *policy) { rule(p).ResourceNames = []string{"node-1"} }, want: "every operation"},
		"another group":       {policy: func(p *policy) { rule(p).APIGroups = []string{"apps"} }, want: "every operation"},
		"in namespaces only":  {policy: func(p *policy) { rule(p).Scope = new(admissionv1.NamespacedScope) }, want: "every operation"},
		"some objects":        {policy: func(p *policy) { p.MatchConstraints.ObjectSelector = narrow }, want: "every operation"},
		"some namespaces":     {policy: func(p *policy) { p.MatchConstraints.NamespaceSelector = narrow }, want: "every operation"},
		"some by expression":  {policy: func(p *policy) { p.MatchConstraints.ObjectSelector = labelled }, want: "every operation"},
		"with an exception": {policy: func(p *policy) {
			p.MatchConstraints.ExcludeResourceRules = p.MatchConstraints.ResourceRules
		}, want: "every operation"},
		"other agents": {policy: func(p *policy) {
			p.MatchConditions[0].Expression = strings.ReplaceAll(p.MatchConditions[0].Expression, "cloudimage-agent", "default")
		}, want: "every request of the agents"},
		"never": {policy: func(p *policy) {
			p.MatchConditions = append(p.MatchConditions, admissionv1.MatchCondition{Name: "never", Expression: "false"})
		}, want: "every request of the agents"},
		"by parameters": {policy: func(p *policy) { p.ParamKind = &admissionv1.ParamKind{APIVersion: "v1", Kind: "ConfigMap"} }, want: "paramKind"},

		"warns only":    {binding: func(b *binding) { b.ValidationActions = []admissionv1.ValidationAction{admissionv1.Warn} }, want: "deny"},
		"binds another": {binding: func(b *binding) { b.PolicyName = "another" }, want: "deny"},
		"binds some":    {binding: func(b *binding) { b.MatchResources = &admissionv1.MatchResources{ObjectSelector: narrow} }, want: "deny"},
		"binds some kinds": {binding: func(b *binding) {
			b.MatchResources = &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{}}}
		}, want: "deny"},
		"binds everything": {binding: func(b *binding) { b.MatchResources = &admissionv1.MatchResources{} }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, bindings := shipped(t)
			if tt.policy != nil {
				tt.policy(&p.Spec)
			}
			if tt.binding != nil {
				tt.binding(&bindings[0].Spec)
			}
			checkConfinement(t, p, bindings, tt.want)
		})
	}
	p, bindings := shipped(t)
	checkConfinement(t, nil, bindings, "there is no ValidatingAdmissionPolicy")
	checkConfinement(t, p, nil, "deny")
}

// TestPolicyTakesTheAgentsFieldManager keeps the agent and the policy together: under another name it could report nothing.
func TestPolicyTakesTheAgentsFieldManager(t *testing.T) {
	t.Parallel()
	p, _ := shipped(t)
	if rule := p.Spec.Validations[1].Expression; !strings.Contains(rule, "'"+string(fieldManager)+"'") {
		t.Errorf("the policy takes no %s: %s", fieldManager, rule)
	}
}

func checkConfinement(t *testing.T, p *admissionv1.ValidatingAdmissionPolicy, b []admissionv1.ValidatingAdmissionPolicyBinding, want string) {
	t.Helper()
	c := Confinement{Policy: "cloudimage-agent-confinement", Namespace: "cloudimage-system", ServiceAccount: "cloudimage-agent"}
	err := c.problem(p, b)
	if (err == nil) != (want == "") || (err != nil && !strings.Contains(err.Error(), want)) {
		t.Errorf("problem %v, want %q", err, want)
	}
}
