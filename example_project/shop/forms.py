from django import forms

from .ways import DEFAULT, ways_for


class CheckoutForm(forms.Form):
    email = forms.EmailField(label="E-mail", widget=forms.EmailInput(attrs={"autocomplete": "email"}))
    way = forms.ChoiceField(label="Pay with", widget=forms.RadioSelect, initial=DEFAULT)

    def __init__(self, *args, cart, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["way"].choices = [(name, way.label) for name, way in ways_for(cart.total, cart.currency).items()]
